//! Pulling what others changed.

use std::panic::AssertUnwindSafe;

use dynos_sync_core::{
    Cursor, Entry, Redactor, RemoteError, Seq, TableName,
    conflict::{Conflict, Resolution, Strategy, StrategyName},
    measure,
    plan::pull::{self, Reading},
    replica::{Batch, Op, Outcome, Phase, State, TableState},
    sabotage::{Mutant, is_on},
    wire::{Expired, HeadsRequest, Page, PullRequest},
};
use futures_util::FutureExt;
use tracing::Instrument;

use crate::{
    driver::Driver,
    error::SyncError,
    event::SyncEvent,
    metrics::Counted,
    report::{PullReport, SyncReport, TableReport},
    status::Progress,
    trace::{self, Job},
};

impl Driver {
    /// How often one pull of a table starts over because its cursor has expired.
    const RESTARTS: usize = 3;

    /// Pulls every table that has changed.
    ///
    /// # Errors
    /// See [`SyncEngine::pull_all`](crate::SyncEngine::pull_all).
    pub async fn pull_all(&self) -> Result<PullReport, SyncError> {
        self.observe(Job::Pull, self.pull_changed()).await
    }

    async fn pull_changed(&self) -> Result<PullReport, SyncError> {
        let start = self.clock.now();
        let mut report = PullReport::default();
        let mut first_error = None;
        let (state, changed) = self.changed_tables().await?;
        let snapshot = self.take_snapshot(&state, &changed).await?;
        for table in changed {
            let installed =
                snapshot.get(&table).map_or(0, |rows| usize::try_from(*rows).unwrap_or(usize::MAX));
            match self.pull_on(&table, installed, |_| false).await {
                Ok(done) => drop(report.tables.insert(table, done)),
                Err(error) if self.config.stop_on_first_error || error.is_auth() => return Err(error),
                Err(error) => {
                    self.tell(SyncEvent::SyncError { error: error.to_string(), context: "pull" });
                    first_error = first_error.or(Some(error));
                }
            }
        }
        report.duration = self.since(start);
        first_error.map_or(Ok(report), Err)
    }

    /// Pushes, pulls, and pushes what the pull has made.
    ///
    /// # Errors
    /// See [`SyncEngine::sync_all`](crate::SyncEngine::sync_all).
    pub async fn sync_all(&self) -> Result<SyncReport, SyncError> {
        self.observe(Job::Sync, self.sync_everything()).await
    }

    async fn sync_everything(&self) -> Result<SyncReport, SyncError> {
        let mut report = SyncReport::default();
        let drained = Self::traced(Job::Drain, self.drain_all()).await;
        let first_error = match drained {
            Ok(drain) => {
                report.drain = drain;
                None
            }
            Err(error) if self.config.stop_on_first_error || error.is_auth() => return Err(error),
            Err(error) => Some(error),
        };
        report.pull = Self::traced(Job::Pull, self.pull_changed()).await?;
        if let Some(error) = first_error {
            return Err(error);
        }
        let state = self.state().await?;
        if state.pending > 0 {
            report.drain.add(&Self::traced(Job::Drain, self.drain_all()).await?);
        }
        if state.conflicts > 0 {
            self.prune_journal(&state).await?;
        }
        self.tell(SyncEvent::SyncComplete(report.clone()));
        Ok(report)
    }

    async fn prune_journal(&self, state: &State) -> Result<(), SyncError> {
        let retention = i64::try_from(self.config.queue_retention.as_millis()).unwrap_or(i64::MAX);
        let before = self.clock.now().saturating_sub(retention);
        self.commit_in(state.generation, vec![Op::Prune { before }]).await.map(drop)
    }

    /// The tables whose head is not where they stand here, and the state that they were seen in.
    async fn changed_tables(&self) -> Result<(State, Vec<TableName>), SyncError> {
        let state = self.state().await?;
        let pulled: Vec<&TableState> = state.tables.iter().filter(|table| table.policy.pull).collect();
        let mut changed = Vec::new();
        for tables in pulled.chunks(HeadsRequest::MAX_TABLES) {
            let heads = self.heads(tables.iter().map(|table| table.spec.name.clone()).collect()).await?;
            let stands = |table: &TableState| {
                let at_head = table.cursor.as_ref() == heads.heads.get(&table.spec.name);
                table.phase == Phase::Following && at_head && table.ahead.is_none()
            };
            changed.extend(tables.iter().filter(|table| !stands(table)).map(|table| table.spec.name.clone()));
        }
        self.declare(&state).await?;
        Ok((state, changed))
    }

    /// Pulls one table to the end.
    pub(crate) async fn pull_table(&self, name: &TableName) -> Result<TableReport, SyncError> {
        self.pull_until(name, |_| false).await
    }

    /// Pulls one table page by page to the end, or until that is enough.
    pub(crate) async fn pull_until(
        &self,
        name: &TableName,
        is_enough: fn(&TableState) -> bool,
    ) -> Result<TableReport, SyncError> {
        self.pull_on(name, 0, is_enough).await
    }

    /// As [`pull_until`](Self::pull_until), after so many rows have come in another way.
    async fn pull_on(
        &self,
        name: &TableName,
        installed: usize,
        is_enough: fn(&TableState) -> bool,
    ) -> Result<TableReport, SyncError> {
        let span = trace::table(name);
        let result = self.pull_pages(name, installed, is_enough).instrument(span.clone()).await;
        if let Ok(report) = &result {
            span.record("pages", report.pages).record("rows", report.rows);
        }
        trace::end(&span, &result);
        result
    }

    async fn pull_pages(
        &self,
        name: &TableName,
        installed: usize,
        is_enough: fn(&TableState) -> bool,
    ) -> Result<TableReport, SyncError> {
        let mut report = TableReport { rows: installed, ..TableReport::default() };
        let mut restarts = 0;
        let mut last: Seq = 0;
        while report.pages < self.config.max_pages {
            let state = self.state().await?;
            let Some(table) = state.table(name).filter(|table| !is_enough(table)) else { return Ok(report) };
            let unsettled = self.replica.unsettled(name, self.config.batch_size).await?;
            let request = self.request(&state, table, &unsettled);
            let page = match self.remote.pull(request.clone()).await {
                Ok(page) => page,
                Err(RemoteError::CursorExpired(expired)) if restarts < Self::RESTARTS => {
                    (restarts, last) = (restarts + 1, 0);
                    self.restart(&state, table, &expired).await?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            pull::check(&request, &page, last).map_err(Self::protocol)?;
            last = page.changes.last().map_or(last, |change| change.seq);
            let has_more = page.has_more;
            let come = Progress { rows: page.changes.len(), total: page.total };
            if !self.apply(&state, table, &request, &unsettled, page, &mut report).await? {
                // Somebody else has pulled this table meanwhile: go on from where they are.
                last = 0;
                continue;
            }
            if table.phase != Phase::Following {
                self.observed.walked(name, request.cursor.is_none(), come);
            }
            self.tell(SyncEvent::Progress { table: name.clone(), rows: report.rows });
            if has_more {
                continue;
            }
            self.observed.has_walked(name);
            self.tell(SyncEvent::PullComplete { table: name.clone(), row_count: report.rows });
            return Ok(report);
        }
        Err(Self::protocol(format!("table {name} did not end after {} pages", self.config.max_pages)))
    }

    fn request(&self, state: &State, table: &TableState, unsettled: &[Entry]) -> PullRequest {
        PullRequest {
            replica: state.replica,
            table: table.spec.name.clone(),
            cursor: table.cursor.clone(),
            seen: table.ahead.clone().filter(|_| !is_on(Mutant::PullSeenLeftOut)),
            limit: self.config.page_size.max(1),
            unsettled: unsettled.iter().map(|entry| entry.counter).collect(),
            all: table.phase.wants_all() && !is_on(Mutant::OwnLeftOut),
        }
    }

    /// Begins a walk from the beginning. Should the server lose more of its history in the meantime, the place that is kept
    /// as ahead tells: the end of the history as it is now, or where this device stood.
    async fn restart(&self, state: &State, table: &TableState, expired: &Expired) -> Result<(), SyncError> {
        let name = &table.spec.name;
        let phase = table.phase.after(expired);
        let ahead = match expired {
            Expired::Purged => table.ahead.clone().or_else(|| table.cursor.clone()),
            Expired::RolledBack { .. } => self.heads(vec![name.clone()]).await?.heads.remove(name),
        };
        self.tell(SyncEvent::Resync { table: name.clone(), phase });
        self.commit_in(state.generation, vec![Op::Restart { table: name.clone(), phase, ahead }])
            .await
            .map(drop)
    }

    /// Applies a page: rows, conflicts and cursor in one transaction. Plans again while local writes come in between;
    /// answers false where the cursor itself has moved.
    async fn apply(
        &self,
        state: &State,
        table: &TableState,
        request: &PullRequest,
        unsettled: &[Entry],
        page: Page,
        report: &mut TableReport,
    ) -> Result<bool, SyncError> {
        let ids: Vec<_> = page.changes.iter().map(|change| change.id.clone()).collect();
        for _ in 0..Self::REPLANS {
            let seen = self.replica.records(&request.table, &ids, pull::needs_rows(table)).await?;
            let reading = pull::read(state, table, request, unsettled, page.clone(), seen);
            let told = self.notices(&reading);
            let (mut batch, conflicts) = self.decide(table, reading, page.next.clone(), page.has_more).await;
            if is_on(Mutant::CursorBeforeRows) {
                self.split(&mut batch).await?;
            }
            if let Outcome::Committed(receipt) = self.commit_batch(batch).await? {
                let (changes, bytes) = (page.changes.len(), page_bytes(&page));
                report.pages += 1;
                report.rows += changes;
                report.conflicts += conflicts.len();
                report.bytes += bytes;
                self.observed.add(Counted::Pages, 1);
                self.observed.add(Counted::ChangesPulled, changes);
                self.observed.add(Counted::PageBytes, bytes);
                let quarantined =
                    receipt.quarantined.into_iter().map(|(key, error)| SyncEvent::Quarantined { key, error });
                told.into_iter().chain(conflicts).chain(quarantined).for_each(|event| self.tell(event));
                return Ok(true);
            }
            let now = self.state().await?;
            if now.table(&request.table).is_none_or(|table| table.cursor != request.cursor) {
                return Ok(false);
            }
        }
        Err(SyncError::Contention(format!("table {}", request.table)))
    }

    /// The cursor first, and the rows in a transaction of their own.
    async fn split(&self, batch: &mut Batch) -> Result<(), SyncError> {
        let is_cursor = |op: &Op| matches!(op, Op::Advance { .. } | Op::Complete { .. });
        let (cursor, rows) = std::mem::take(&mut batch.ops).into_iter().partition(is_cursor);
        batch.ops = rows;
        batch.expected.cursor = None;
        self.commit(cursor).await.map(drop)
    }

    async fn decide(
        &self,
        table: &TableState,
        mut reading: Reading,
        next: Cursor,
        has_more: bool,
    ) -> (Batch, Vec<SyncEvent>) {
        let (mut ops, mut events) = (Vec::new(), Vec::new());
        for conflict in std::mem::take(&mut reading.conflicts) {
            let (resolution, strategy) = self.resolve(&conflict).await;
            let op = pull::resolve(table, conflict, &resolution, strategy, self.clock.now());
            events.extend(conflict_event(table, &op));
            ops.push(op);
        }
        (pull::finish(table, reading, ops, next, has_more, self.clock.now()), events)
    }

    /// What the strategy decides. Where the application's resolver panics, the default strategy decides in its place: one
    /// record is not to hold up its table, and the journal keeps both versions.
    async fn resolve(&self, conflict: &Conflict) -> (Resolution, StrategyName) {
        let strategy = self.config.strategy(&conflict.key.table);
        if let Ok(resolution) = AssertUnwindSafe(strategy.resolve(conflict)).catch_unwind().await {
            return (resolution, strategy.name());
        }
        let error = format!("the resolver panicked over {}", conflict.key);
        self.tell(SyncEvent::SyncError { error, context: "resolver" });
        let default = Strategy::default();
        (default.resolve(conflict).await, default.name())
    }

    fn notices(&self, reading: &Reading) -> Vec<SyncEvent> {
        let mut notices: Vec<SyncEvent> =
            reading.foreign.iter().map(|(key, _)| SyncEvent::ForeignRow { key: key.clone() }).collect();
        if !reading.unknown_columns.is_empty() {
            let columns = reading.unknown_columns.iter().cloned().collect();
            notices.push(SyncEvent::UnknownColumns { table: reading.table().clone(), columns });
        }
        notices
    }
}

/// Of fields.
fn page_bytes(page: &Page) -> usize {
    page.changes.iter().filter_map(|change| measure(change.record.as_ref()?).ok()).sum()
}

fn conflict_event(table: &TableState, op: &Op) -> Option<SyncEvent> {
    let Op::Resolve { conflict, .. } = op else { return None };
    let redactor = Redactor::new(&table.policy.sensitive_fields);
    let masked = |side: &Option<dynos_sync_core::Fields>| {
        side.clone().map(|mut fields| {
            redactor.mask(&mut fields);
            fields
        })
    };
    Some(SyncEvent::Conflict {
        table: conflict.key.table.clone(),
        record_id: conflict.key.id.to_string(),
        base: masked(&conflict.base),
        local: masked(&conflict.mine),
        remote: masked(&conflict.theirs),
        resolved: masked(&conflict.outcome),
        strategy_used: conflict.strategy,
    })
}
