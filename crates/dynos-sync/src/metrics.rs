//! [`Metrics`]: what an engine has done since it was started, in numbers.

use std::{collections::BTreeMap, fmt};

/// What is counted. The names are a contract: `docs/observability.md` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counted {
    Jobs,
    JobFailures,
    Pushes,
    PushBytes,
    RecordsPushed,
    Refusals,
    DeadLetters,
    Conflicts,
    Pages,
    PageBytes,
    ChangesPulled,
    SnapshotRows,
    Walks,
    Quarantined,
    StaleCommits,
}

impl Counted {
    /// In the order of their numbers.
    pub(crate) const ALL: [Self; 15] = [
        Self::Jobs,
        Self::JobFailures,
        Self::Pushes,
        Self::PushBytes,
        Self::RecordsPushed,
        Self::Refusals,
        Self::DeadLetters,
        Self::Conflicts,
        Self::Pages,
        Self::PageBytes,
        Self::ChangesPulled,
        Self::SnapshotRows,
        Self::Walks,
        Self::Quarantined,
        Self::StaleCommits,
    ];

    /// Its name, and what it is.
    fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Jobs => ("dynos_device_jobs_total", "Syncs, pushes and pulls that succeeded"),
            Self::JobFailures => ("dynos_device_job_failures_total", "Syncs, pushes and pulls that failed"),
            Self::Pushes => ("dynos_device_pushes_total", "Requests with edits that were answered"),
            Self::PushBytes => {
                ("dynos_device_push_bytes_total", "Bytes of fields in them, before compression")
            }
            Self::RecordsPushed => ("dynos_device_records_pushed_total", "Records that the server has taken"),
            Self::Refusals => ("dynos_device_refusals_total", "Edits refused that are tried again"),
            Self::DeadLetters => ("dynos_device_dead_letters_total", "Edits refused for good"),
            Self::Conflicts => ("dynos_device_conflicts_total", "Conflicts decided"),
            Self::Pages => ("dynos_device_pages_total", "Pages of changes applied"),
            Self::PageBytes => {
                ("dynos_device_page_bytes_total", "Bytes of fields in them, before compression")
            }
            Self::ChangesPulled => ("dynos_device_changes_pulled_total", "Changes in them"),
            Self::SnapshotRows => ("dynos_device_snapshot_rows_total", "Rows that came in snapshots"),
            Self::Walks => ("dynos_device_walks_total", "Tables pulled from the beginning again"),
            Self::Quarantined => {
                ("dynos_device_quarantined_total", "Records that the local tables refused to take")
            }
            Self::StaleCommits => {
                ("dynos_device_stale_commits_total", "Commits planned again, since the database had changed")
            }
        }
    }
}

/// What an engine has done since it was started, in numbers that only rise. How things stand is
/// [`Status`](crate::Status).
///
/// Shown as text it is what Prometheus reads. For anything else, [`iter`](Self::iter).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics(BTreeMap<&'static str, (u64, &'static str)>);

impl Metrics {
    pub(crate) fn new(counts: impl Iterator<Item = (Counted, u64)>) -> Self {
        let named = counts.map(|(counted, value)| {
            let (name, help) = counted.described();
            (name, (value, help))
        });
        Self(named.collect())
    }

    /// The numbers by their names, in the alphabet's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, (value, _))| (*name, *value))
    }

    /// A number, by its name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).map(|(value, _)| *value)
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, (value, help)) in &self.0 {
            writeln!(f, "# HELP {name} {help}.\n# TYPE {name} counter\n{name} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_its_own_place_and_name() {
        for (place, counted) in Counted::ALL.into_iter().enumerate() {
            assert_eq!(counted as usize, place);
        }
        let metrics = Metrics::new(Counted::ALL.into_iter().map(|counted| (counted, counted as u64)));
        assert_eq!(metrics.iter().count(), Counted::ALL.len());
        assert_eq!(metrics.get("dynos_device_pushes_total"), Some(2));
        assert_eq!(metrics.get("dynos_device_pushes"), None);
    }

    #[test]
    fn as_text_it_is_what_prometheus_reads() {
        let text = Metrics::new([(Counted::Pages, 7)].into_iter()).to_string();
        let expected = "# HELP dynos_device_pages_total Pages of changes applied.\n\
                        # TYPE dynos_device_pages_total counter\ndynos_device_pages_total 7\n";
        assert_eq!(text, expected);
    }
}
