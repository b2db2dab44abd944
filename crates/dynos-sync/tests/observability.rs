//! What `docs/observability.md` lists is what an engine shows, no more and no less, and nothing of a user's is in it.
//!
//! It is alone in its program: engines work on threads of their own, so that spans are collected for the whole process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the stack has more than this needs")]

#[path = "common/proxy.rs"]
mod proxy;
#[path = "common/stack.rs"]
mod stack;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex},
};

use dynos_sync::json;
use stack::Stack;
use tracing::{
    Id, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

const DOCUMENT: &str = include_str!("../../../docs/observability.md");

/// The cells of the rows of the document's tables whose first cell begins like this.
fn rows(beginning: &str) -> Vec<Vec<String>> {
    let beginning = format!("| `{beginning}");
    let lines = DOCUMENT.lines().filter(|line| line.starts_with(&beginning));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.map(cells).collect()
}

fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

type Spans = BTreeMap<String, (String, BTreeSet<String>)>;

fn documented_spans() -> Spans {
    let span = |cells: Vec<String>| {
        let name = quoted(&cells[0]).pop_first().unwrap();
        (name, (cells[1].clone(), quoted(&cells[2])))
    };
    rows("dynos.").into_iter().map(span).collect()
}

/// The spans that were made, by name, and all that was ever written into one.
#[derive(Debug, Default)]
struct Seen {
    spans: Spans,
    values: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone, Debug, Default)]
struct Collector(Arc<Mutex<Seen>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let metadata = attributes.metadata();
        if metadata.target() != "dynos_sync" {
            return;
        }
        let fields = metadata.fields().iter().map(|field| field.name().to_owned()).collect();
        let level = metadata.level().as_str().to_lowercase();
        let mut seen = self.0.lock().unwrap();
        seen.spans.insert(metadata.name().to_owned(), (level, fields));
        attributes.record(&mut *seen);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if context.span(id).is_some_and(|span| span.metadata().target() == "dynos_sync") {
            record.record(&mut *self.0.lock().unwrap());
        }
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.values.entry(field.name().to_owned()).or_default().insert(format!("{value:?}").replace('"', ""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_and_metrics_are_those_that_are_documented() {
    let collector = Collector::default();
    let subscriber = tracing_subscriber::registry().with(collector.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let stack = Stack::with(|config| {
        config.snapshots.rows = 1;
        config.limits.record_bytes = 1000;
    })
    .await;
    let one = stack.device("one").await;
    one.write("canary-id", json!({"canary_field": "canary value"})).await;
    one.sync().await;
    let two = stack.device("two").await;
    two.sync().await;
    one.write("canary-large", json!({"canary_field": "canary".repeat(1000)})).await;
    one.patch("canary-id", json!({"a": 1})).await;
    one.sync().await;
    two.sync().await;
    stack.proxy.offline();
    one.engine.sync_all().await.unwrap_err();

    let seen = collector.0.lock().unwrap();
    assert_eq!(seen.spans, documented_spans());
    let outcomes = &seen.values["outcome"];
    assert!(outcomes.contains("ok") && outcomes.contains("unreachable"), "{outcomes:?}");
    let told = quoted(DOCUMENT.lines().find(|line| line.starts_with("`outcome` is")).unwrap());
    assert!(outcomes.iter().all(|outcome| told.contains(outcome)), "{outcomes:?}");
    assert_eq!(seen.values["table"], BTreeSet::from(["notes".to_owned()]));
    assert!(!format!("{:?}", seen.values).contains("canary"), "{:?}", seen.values);

    let metrics = one.engine.metrics();
    let names: BTreeSet<String> = metrics.iter().map(|(name, _)| name.to_owned()).collect();
    let documented: BTreeSet<String> =
        rows("dynos_device_").iter().flat_map(|cells| quoted(&cells[0])).collect();
    assert_eq!(names, documented);
    let count = |name: &str| metrics.get(&format!("dynos_device_{name}_total")).unwrap();
    assert_eq!((count("jobs"), count("job_failures")), (2, 1));
    assert_eq!((count("records_pushed"), count("refusals"), count("dead_letters")), (2, 1, 0));
    assert!(count("pushes") >= 2 && count("push_bytes") > 6000);
    let pulled = two.engine.metrics();
    assert_eq!(pulled.get("dynos_device_snapshot_rows_total"), Some(1));
    assert_eq!(pulled.get("dynos_device_changes_pulled_total"), Some(1));
}
