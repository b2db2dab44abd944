//! `dynos sync`: once, to the end.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use dynos_sync::{
    Driver, SyncConfig, SyncError, SystemClock,
    core::{
        Remote, Replica, ReplicaError, TableName,
        replica::{DueLimits, State},
    },
    sqlite::SqliteReplica,
};
use serde_json::{Map, Value, json};

use crate::{
    cli::{StrategyArg, SyncArgs},
    connection::Connection,
    database,
    error::{Code, Failure},
    output::{Columns, Output, count, plain},
    progress::Progress,
    tally::{Passed, Tally},
    time,
};

pub(crate) async fn run(args: &SyncArgs, output: &Output) -> Result<(), Failure> {
    let connection = Connection::resolve(&args.remote, &args.database)?;
    let remote = connection.open().await?;
    let report = database::with_tracked(&args.database, async |replica, state| {
        if state.tables.is_empty() {
            return Err(database::not_tracked(&args.database));
        }
        once(replica, remote.clone(), args.strategy, args.retries, output).await
    })
    .await?;
    report.print(&args.database, output)?;
    report.verdict(&args.database)
}

/// What a sync has done, and how things stand after it.
pub(crate) struct Report {
    tables: BTreeMap<TableName, Counts>,
    pub(crate) state: State,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    passed: Passed,
    conflicts: usize,
    dead_letters: usize,
}

/// Pushes and pulls until nothing is left that can be moved now.
pub(crate) async fn once(
    replica: &SqliteReplica,
    remote: Arc<dyn Remote>,
    strategy: StrategyArg,
    retries: u32,
    output: &Output,
) -> Result<Report, Failure> {
    let before = replica.state().await?;
    let progress = if output.shows_progress() { Progress::shown(before.pending) } else { Progress::hidden() };
    counted(replica, Arc::new(Tally::new(remote, progress)), strategy, retries).await
}

/// As [`once`], with what has been counted before.
pub(crate) async fn counted(
    replica: &SqliteReplica,
    tally: Arc<Tally>,
    strategy: StrategyArg,
    retries: u32,
) -> Result<Report, Failure> {
    let mark = Mark::take(replica).await?;
    let driver = driver(replica, tally.clone(), strategy).await?;
    to_the_end(&driver, replica, retries).await?;
    let mut tables: BTreeMap<TableName, Counts> = tally
        .passed()
        .into_iter()
        .map(|(name, passed)| (name, Counts { passed, ..Counts::default() }))
        .collect();
    mark.count(replica, &mut tables).await?;
    Ok(Report { tables, state: replica.state().await? })
}

async fn driver(
    replica: &SqliteReplica,
    remote: Arc<dyn Remote>,
    strategy: StrategyArg,
) -> Result<Driver, Failure> {
    let mut config = SyncConfig::default();
    config.conflict_strategy = strategy.strategy();
    let random = Box::new(|| getrandom::u64().unwrap_or(u64::MAX / 2));
    Ok(Driver::new(Arc::new(replica.clone()), remote, Arc::new(SystemClock), config, random).await?)
}

async fn to_the_end(driver: &Driver, replica: &SqliteReplica, retries: u32) -> Result<(), Failure> {
    /// Other programs may write for as long as they like; this command is to end.
    const ROUNDS: usize = 10;
    for _ in 0..ROUNDS {
        patiently(retries, async || driver.sync_all().await).await?;
        let now = DueLimits { now: time::now(), longest_wait: i64::MAX, records: 1, bytes: 0, under_way: 0 };
        if replica.due(&now).await?.groups.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Tries again, after a pause, what failed for a reason that may pass.
pub(crate) async fn patiently<T>(
    retries: u32,
    mut work: impl AsyncFnMut() -> Result<T, SyncError>,
) -> Result<T, SyncError> {
    let mut failures = 0;
    loop {
        match work().await {
            Err(error) if error.is_transient() && failures < retries => {
                let pause = pause(failures).max(asked_for(&error));
                tracing::info!(%error, ?pause, "trying again");
                tokio::time::sleep(pause).await;
                failures += 1;
            }
            done => return done,
        }
    }
}

/// Half a second, then twice as long each time, up to half a minute; a random half of it, so that devices do not all come at once.
fn pause(failures: u32) -> Duration {
    let longest = 500_u64.saturating_mul(1 << failures.min(6)).min(30_000);
    let jitter = getrandom::u64().unwrap_or(0) % (longest / 2 + 1);
    Duration::from_millis(longest / 2 + jitter)
}

/// How long the server asks to be left alone.
fn asked_for(error: &SyncError) -> Duration {
    match error {
        SyncError::Remote(error) => error.retry_after().unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

/// Where the journal and the dead letters ended before a sync.
struct Mark {
    conflict: i64,
    letter: i64,
}

impl Mark {
    const PAGE: usize = 500;

    async fn take(replica: &SqliteReplica) -> Result<Self, ReplicaError> {
        let conflict = replica.conflicts(i64::MAX, 1).await?.first().map_or(0, |newest| newest.id);
        let mut letter = 0;
        while let Some(last) = replica.dead_letters(letter, Self::PAGE).await?.last() {
            letter = last.id;
        }
        Ok(Self { conflict, letter })
    }

    /// Counts what came since.
    async fn count(
        &self,
        replica: &SqliteReplica,
        tables: &mut BTreeMap<TableName, Counts>,
    ) -> Result<(), ReplicaError> {
        let mut before = i64::MAX;
        loop {
            let page = replica.conflicts(before, Self::PAGE).await?;
            let new: Vec<_> = page.iter().filter(|conflict| conflict.id > self.conflict).collect();
            for resolved in new.iter().filter_map(|conflict| conflict.resolved.as_ref()) {
                tables.entry(resolved.key.table.clone()).or_default().conflicts += 1;
            }
            match new.last() {
                Some(oldest) if new.len() == Self::PAGE => before = oldest.id,
                _ => break,
            }
        }
        let mut after = self.letter;
        loop {
            let page = replica.dead_letters(after, Self::PAGE).await?;
            for letter in &page {
                tables.entry(letter.key.table.clone()).or_default().dead_letters += 1;
            }
            match page.last() {
                Some(last) => after = last.id,
                None => return Ok(()),
            }
        }
    }
}

impl Report {
    /// Whether everything is synced.
    pub(crate) fn is_complete(&self) -> bool {
        let State { pending, dead_letters, quarantined, .. } = &self.state;
        pending + dead_letters + quarantined == 0
    }

    /// How much was pushed, pulled and decided.
    pub(crate) fn moved(&self) -> (usize, usize, usize) {
        let Counts { passed, conflicts, .. } = self.total();
        (passed.pushed, passed.pulled, conflicts)
    }

    pub(crate) fn document(&self, database: &Path) -> Value {
        let counts = |counts: &Counts| {
            json!({
                "pushed": counts.passed.pushed,
                "pulled": counts.passed.pulled,
                "rejected": counts.passed.rejected,
                "conflicts": counts.conflicts,
                "dead_letters": counts.dead_letters,
            })
        };
        let tables: Map<String, Value> =
            self.tables.iter().map(|(name, table)| (name.as_str().to_owned(), counts(table))).collect();
        json!({
            "database": database.display().to_string(),
            "complete": self.is_complete(),
            "total": counts(&self.total()),
            "tables": tables,
            "pending": self.state.pending,
            "dead_letters": self.state.dead_letters,
            "quarantined": self.state.quarantined,
        })
    }

    pub(crate) fn text(&self) -> String {
        let total = self.total();
        if self.tables.is_empty() {
            return "everything is up to date\n".to_owned();
        }
        let mut columns = Columns::new(["table", "pushed", "pulled", "conflicts", "rejected"]);
        let mut row = |name: &str, counts: &Counts| {
            let Passed { pushed, pulled, rejected } = counts.passed;
            let numbers = [pushed, pulled, counts.conflicts, rejected].map(|number| number.to_string());
            let [pushed, pulled, conflicts, rejected] = numbers;
            columns.row([name.to_owned(), pushed, pulled, conflicts, rejected]);
        };
        for (name, counts) in &self.tables {
            row(name.as_str(), counts);
        }
        if self.tables.len() > 1 {
            row("total", &total);
        }
        columns.to_string()
    }

    fn print(&self, database: &Path, output: &Output) -> Result<(), Failure> {
        output.result(&self.document(database), self.text())
    }

    fn total(&self) -> Counts {
        self.tables.values().fold(Counts::default(), |mut total, table| {
            total.passed.pushed += table.passed.pushed;
            total.passed.pulled += table.passed.pulled;
            total.passed.rejected += table.passed.rejected;
            total.conflicts += table.conflicts;
            total.dead_letters += table.dead_letters;
            total
        })
    }

    /// A failure where something is not synced.
    pub(crate) fn verdict(&self, database: &Path) -> Result<(), Failure> {
        if self.is_complete() {
            return Ok(());
        }
        let State { pending, dead_letters, quarantined, .. } = &self.state;
        let database = plain(&database.display().to_string());
        let mut parts = Vec::new();
        let mut hint = format!("sync again later; see dynos queue {database}");
        if *pending > 0 {
            parts.push(format!("{} still waiting", count(*pending, "change")));
        }
        if *quarantined > 0 {
            parts.push(format!("{} that the local table does not take", count(*quarantined, "row")));
            hint = format!("see why with: dynos status {database}; then change the table, and sync again");
        }
        if *dead_letters > 0 {
            parts.push(format!("{} that the server refused for good", count(*dead_letters, "change")));
            hint = format!("look at them with: dynos dead-letters {database} list");
        }
        Err(Failure::new(Code::Incomplete, format!("not everything is synced: {}", parts.join(", ")))
            .hint(hint))
    }
}
