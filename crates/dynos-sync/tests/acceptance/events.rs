//! What is told: each change of state once, in the order of the commits, alike to everybody who listens.

use dynos_sync::{SyncEvent, core::measure, json};

use crate::stack::{Stack, TABLE, object, told};

/// An event in a word.
fn word(event: &SyncEvent) -> Option<String> {
    Some(match event {
        SyncEvent::Pushed { key } => format!("pushed {}", key.id),
        SyncEvent::Conflict { record_id, .. } => format!("conflict {record_id}"),
        SyncEvent::RetryScheduled { entry, .. } => format!("retry {}", entry.key.id),
        SyncEvent::PoisonPill { entry, .. } => format!("dead {}", entry.key.id),
        SyncEvent::PullComplete { row_count, .. } => format!("pulled {row_count}"),
        SyncEvent::DrainComplete(report) => format!("drained {}", report.pushed),
        SyncEvent::SyncComplete(_) => "synced".to_owned(),
        SyncEvent::Progress { .. } => return None,
        other => format!("{other:?}"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_state_is_told_once_in_order_and_alike_to_everybody() {
    let stack = Stack::with(|config| config.limits.record_bytes = 1000).await;
    let one = stack.device_with("one", |setup| setup.config.max_retries = 1).await;
    let two = stack.device("two").await;
    for n in 0..5 {
        one.write(&format!("r{n}"), json!({"a": n})).await;
    }
    stack.settle(&[&one, &two]).await;
    two.patch("r3", json!({"a": "theirs"})).await;
    two.write("new", json!({"a": 1})).await;
    two.sync().await;
    let mut listeners = [one.engine.events(), one.engine.events(), one.engine.events()];
    one.patch("r1", json!({"a": 10})).await;
    one.remove("r2").await;
    one.patch("r3", json!({"a": "mine"})).await;
    one.write("big", json!({"a": "x".repeat(2000)})).await;
    one.patch("r1", json!({"b": 11})).await;
    one.sync().await;
    one.sync().await;
    let told = listeners.each_mut().map(told);
    assert_eq!((&told[0], &told[0]), (&told[1], &told[2]));
    let words: Vec<_> = told[0].iter().filter_map(word).collect();
    let expected = [
        // Two edits of one record are one push; the conflict is met, and decided where the table is pulled.
        "pushed r1",
        "pushed r2",
        "dead big",
        "conflict r3",
        "pulled 2",
        "pushed r3",
        "drained 3",
        "synced",
        "drained 0",
        "synced",
    ];
    assert_eq!(words, expected);
    assert_eq!(one.engine.dead_letters().await.unwrap().len(), 1);
    assert_eq!(one.engine.conflicts().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_counts_what_went_over_the_wire() {
    let stack = Stack::new().await;
    let (one, two) = (stack.device("one").await, stack.device("two").await);
    let records = (0..250).map(|n| (format!("r{n}"), object(json!({"a": n, "text": "x".repeat(n)}))));
    let records: Vec<_> = records.collect();
    one.engine.write_many(TABLE, records).await.unwrap();
    stack.proxy.forget();
    let (own, down) = (one.sync().await, two.sync().await.pull);
    let up = own.drain;
    let pushes = stack.proxy.seen_at("/v1/push");
    let entries: Vec<_> =
        pushes.iter().flat_map(|push| push.body()["entries"].as_array().cloned().unwrap()).collect();
    let bytes: usize = entries.iter().map(|entry| measure(&object(entry["data"].clone())).unwrap()).sum();
    assert_eq!((up.cycles, up.pushed, up.bytes), (pushes.len(), 250, bytes));
    let table = &down.tables[&TABLE.parse().unwrap()];
    assert_eq!((down.rows(), table.bytes), (250, bytes), "what one has sent is what the other has received");
    // And as many as the server has counted.
    let metrics = stack.metrics().await;
    let pulled = format!("dynos_changes_pulled_total {}", own.pull.rows() + down.rows());
    for line in [r#"dynos_entries_total{result="applied"} 250"#, &pulled] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
}
