//! Numbers for the operator, in the OpenMetrics format.

use std::{sync::Mutex, time::Duration};

use dynos_sync_core::wire::PushResult;
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

type Labels<const N: usize> = [(&'static str, String); N];

/// All numbers of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Labels<2>, Counter>,
    seconds: Family<Labels<1>, Histogram>,
    entries: Family<Labels<1>, Counter>,
    changes: Counter,
    listeners: Gauge,
    bytes: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let metrics = Self {
            registry: Mutex::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            entries: Family::default(),
            changes: Counter::default(),
            listeners: Gauge::default(),
            bytes: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("dynos");
        registry.register("requests", "Requests answered", metrics.requests.clone());
        let took = "Time until the head of the answer";
        registry.register_with_unit("request_duration", took, Unit::Seconds, metrics.seconds.clone());
        registry.register("entries", "Entries answered, by result", metrics.entries.clone());
        registry.register("changes_pulled", "Changes handed out", metrics.changes.clone());
        registry.register("event_streams", "Event streams open", metrics.listeners.clone());
        registry.register_with_unit("database", "Size of the database", Unit::Bytes, metrics.bytes.clone());
        Self { registry: Mutex::new(registry), ..metrics }
    }

    pub(crate) fn answered(&self, route: &str, status: u16, took: Duration) {
        let route = ("route", route.to_owned());
        self.requests.get_or_create(&[route.clone(), ("status", status.to_string())]).inc();
        self.seconds.get_or_create(&[route]).observe(took.as_secs_f64());
    }

    pub(crate) fn pushed(&self, results: &[PushResult]) {
        for result in results {
            let name = match result {
                PushResult::Applied { .. } => "applied",
                PushResult::Duplicate { .. } => "duplicate",
                PushResult::Conflict { .. } => "conflict",
                PushResult::Rejected { .. } => "rejected",
            };
            self.entries.get_or_create(&[("result", name.to_owned())]).inc();
        }
    }

    pub(crate) fn pulled(&self, changes: usize) {
        self.changes.inc_by(changes as u64);
    }

    /// Counts an event stream until the answer is dropped.
    pub(crate) fn listening(&self) -> Listening {
        self.listeners.inc();
        Listening(self.listeners.clone())
    }

    /// All numbers as text.
    pub(crate) fn text(&self, database_bytes: u64) -> Option<String> {
        self.bytes.set(i64::try_from(database_bytes).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &*self.registry.lock().ok()?).ok()?;
        Some(text)
    }
}

/// An event stream that is open.
#[derive(Debug)]
pub(crate) struct Listening(Gauge);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_numbers_are_those_that_are_documented() {
        let metrics = Metrics::new();
        metrics.answered("/v1/push", 200, Duration::from_millis(1));
        metrics.pushed(&[PushResult::Conflict { seq: 1 }]);
        let text = metrics.text(1).unwrap();
        let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let document = include_str!("../../../docs/observability.md");
        let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
        let names = rows.filter(|row| row.starts_with("dynos_") && !row.starts_with("dynos_device_"));
        let documented: BTreeSet<&str> = names.filter_map(|row| row.split('`').next()).collect();
        assert_eq!(typed.collect::<BTreeSet<_>>(), documented);
    }
}
