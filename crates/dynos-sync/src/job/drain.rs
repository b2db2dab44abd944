//! Pushing what is queued.

use std::collections::BTreeSet;

use dynos_sync_core::{
    Entry, Millis, RemoteError, TableName, measure,
    plan::push::{self, Answered, EntryOutcome, Prepared, RetryRules},
    replica::{self, DueLimits, Op, Outcome, Phase, Revert, State, TableState},
    sabotage::{Mutant, is_on},
    wire::{PushAnswer, PushResult},
};
use futures_util::future::join;
use tracing::Instrument;

use crate::{
    driver::Driver,
    error::SyncError,
    event::SyncEvent,
    metrics::Counted,
    report::DrainReport,
    trace::{self, Job},
};

/// Entries that are marked as sent, and the state that they were read in.
struct Batch {
    state: State,
    prepared: Prepared,
    /// Of fields.
    bytes: usize,
    begun: Millis,
}

impl Batch {
    fn new(state: State, prepared: Prepared, begun: Millis) -> Self {
        let size = |entry: &Entry| measure(entry.edit.fields()?).ok();
        let bytes = prepared.entries.iter().filter_map(size).sum();
        Self { state, prepared, bytes, begun }
    }
}

/// A batch that was taken in full, and what the server says of it.
struct Taken {
    batch: Batch,
    answer: PushAnswer,
}

/// A drain under way. There is never more than one push: but while the server works on it, what it said of the last one is put in the
/// queue, and the next one is read and marked.
struct Drain<'a> {
    driver: &'a Driver,
    report: DrainReport,
    /// The most records of a push: fewer where the server has found one too large.
    records: usize,
    /// Batches in a row that moved nothing.
    in_vain: usize,
    /// What is sent next, where that is known.
    next: Option<Batch>,
    /// What is put in the queue while the next is under way.
    taken: Option<Taken>,
}

impl Driver {
    /// Pushes until nothing is left that can be pushed now, of what was queued when it began.
    ///
    /// # Errors
    /// See [`SyncEngine::drain`](crate::SyncEngine::drain).
    pub async fn drain(&self) -> Result<DrainReport, SyncError> {
        self.observe(Job::Drain, self.drain_all()).await
    }

    /// The drain itself, within another job.
    pub(crate) async fn drain_all(&self) -> Result<DrainReport, SyncError> {
        let start = self.clock.now();
        // Every batch deals with a record at least. Who goes on writing meanwhile does not keep the drain from ending.
        let batches = self.state().await?.pending.saturating_add(Self::REPLANS as u64);
        let mut drain = Drain::new(self);
        let pushed = drain.run(batches).await;
        // Whatever came after it, this has been answered.
        let settled = drain.settle().await;
        pushed.and(settled)?;
        let mut total = drain.report;
        total.duration = self.since(start);
        self.tell(SyncEvent::DrainComplete(total.clone()));
        Ok(total)
    }

    /// Pushes one batch.
    ///
    /// # Errors
    /// See [`SyncEngine::drain`](crate::SyncEngine::drain).
    pub async fn drain_once(&self) -> Result<DrainReport, SyncError> {
        self.observe(Job::Drain, async {
            let mut drain = Drain::new(self);
            let pushed = drain.run(1).await;
            let settled = drain.settle().await;
            pushed.and(settled).map(|()| drain.report)
        })
        .await
    }

    /// Whether anything can be sent now, and when something may be sent that has to wait.
    pub(crate) async fn ready(&self) -> Result<(bool, Option<Millis>), SyncError> {
        if self.state().await?.pending == 0 {
            return Ok((false, None));
        }
        let due = self.replica.due(&self.limits(1, 0)).await?;
        Ok((!due.groups.is_empty(), due.next_retry))
    }

    fn limits(&self, records: usize, bytes: usize) -> DueLimits {
        let longest_wait = match Millis::try_from(self.config.max_backoff.as_millis()) {
            Ok(longest) if !is_on(Mutant::ClockSetBack) => longest,
            _ => Millis::MAX,
        };
        DueLimits { now: self.clock.now(), longest_wait, records, bytes, under_way: 0 }
    }

    /// Reads what is due, sees to what its tables need first, and marks it as sent. `None` where nothing can be sent now.
    async fn next_batch(&self, records: usize) -> Result<Option<Batch>, SyncError> {
        let mut begun = BTreeSet::new();
        for _ in 0..Self::REPLANS {
            let start = self.clock.now();
            let due = self.replica.due(&self.limits(records, self.config.max_batch_bytes)).await?;
            if due.groups.is_empty() {
                return Ok(None);
            }
            if !self.has_met() {
                // The server may know better who this is: look again afterwards.
                self.heads(Vec::new()).await?;
                continue;
            }
            let state = self.state().await?;
            self.declare(&state).await?;
            if self.walk(&state, &due.groups, &mut begun).await? {
                continue;
            }
            let mut prepared = push::prepare(&state, due.groups);
            if self.mark_sent(&mut prepared).await? {
                return Ok(Some(Batch::new(state, prepared, start)));
            }
        }
        Err(SyncError::Contention("queue".to_owned()))
    }

    /// Reads and marks what can be sent after what is under way, where nothing has to be seen to first. What it leaves marked is sent
    /// in any case, if not next.
    async fn look_ahead(&self, under_way: usize, records: usize) -> Result<Option<Batch>, SyncError> {
        let begun = self.clock.now();
        let limits = DueLimits { under_way, ..self.limits(records, self.config.max_batch_bytes) };
        let due = self.replica.due(&limits).await?;
        let state = self.state().await?;
        let tables = due.groups.iter().flatten().map(|entry| state.table(&entry.key.table));
        let is_plain = |table: &TableState| {
            let has_begun = table.cursor.is_some() || !table.policy.pull;
            table.declared && has_begun && matches!(table.phase, Phase::First | Phase::Following)
        };
        if due.groups.is_empty() || !tables.into_iter().all(|table| table.is_some_and(is_plain)) {
            return Ok(None);
        }
        let mut prepared = push::prepare(&state, due.groups);
        Ok(self.mark_sent(&mut prepared).await?.then(|| Batch::new(state, prepared, begun)))
    }

    /// What a failed call means for what was to be sent: nothing, in an engine without these defects.
    async fn blame(&self, entries: &[Entry]) -> Result<(), SyncError> {
        for entry in entries {
            let (key, counter) = (entry.key.clone(), entry.counter);
            if is_on(Mutant::LostReplyIsFailure) || (is_on(Mutant::OfflineIsPoison) && entry.attempts < 2) {
                self.commit(vec![Op::Postpone { key, counter, retry_at: self.clock.now() }]).await?;
            } else if is_on(Mutant::OfflineIsPoison) {
                let (code, message, at) = ("unreachable".to_owned(), String::new(), self.clock.now());
                let revert = Revert::ToBase;
                self.commit(vec![Op::Bury { key, counter, code, message, at, revert }]).await?;
            }
        }
        Ok(())
    }

    /// What a table has to be pulled before its edits are sent. Answers whether there was such a table.
    ///
    /// While it is pulled from the beginning again it has no cursor, and so nothing to say what its edits were made on top of:
    /// it is pulled to the end. And its first pull has begun, so that what becomes of the edits is after a cursor: what
    /// others delete would otherwise be forgotten, some day, before this device has asked.
    ///
    /// `begun` are the tables whose first pull was begun by this cycle: a damaged file that keeps no cursor holds no edit back.
    async fn walk(
        &self,
        state: &State,
        groups: &[Vec<Entry>],
        begun: &mut BTreeSet<TableName>,
    ) -> Result<bool, SyncError> {
        let due: BTreeSet<&TableName> = groups.iter().flatten().map(|entry| &entry.key.table).collect();
        let mut walked = false;
        for table in state.tables.iter().filter(|table| due.contains(&table.spec.name)) {
            match table.phase {
                Phase::Resync | Phase::Restore { .. } if !is_on(Mutant::PushedInWalk) => {
                    self.pull_table(&table.spec.name).await?;
                }
                Phase::First
                    if table.policy.pull
                        && table.cursor.is_none()
                        && begun.insert(table.spec.name.clone()) =>
                {
                    self.pull_until(&table.spec.name, |table| table.cursor.is_some()).await?;
                }
                _ => continue,
            }
            walked = true;
        }
        Ok(walked)
    }

    /// Records durably what is about to be sent. Answers false where the queue has changed meanwhile.
    async fn mark_sent(&self, prepared: &mut Prepared) -> Result<bool, SyncError> {
        let batch = std::mem::take(&mut prepared.batch);
        Ok(batch.ops.is_empty() || self.commit_batch(batch).await? != Outcome::Stale)
    }

    /// Puts in the queue what the server says of a batch.
    async fn take_answer(&self, batch: &Batch, answer: &PushAnswer) -> Result<DrainReport, SyncError> {
        let rules = RetryRules {
            max_retries: self.config.max_retries,
            backoff: self.config.backoff(),
            keep_refused: self.config.keep_refused,
            now: self.clock.now(),
        };
        let entries = &batch.prepared.entries;
        let answered = push::answer(&batch.state, entries, answer, &rules, || self.random());
        let Answered { batch: ops, outcomes, pull } = answered.map_err(Self::protocol)?;
        self.commit_answer(ops).await?;
        self.observed.add(Counted::Pushes, 1);
        self.observed.add(Counted::PushBytes, batch.bytes);
        let mut report = DrainReport { cycles: 1, bytes: batch.bytes, ..DrainReport::default() };
        for outcome in outcomes {
            self.count(&mut report, outcome);
        }
        // A conflict is decided in one place: where the change that was in the way is applied.
        for table in &pull {
            self.pull_table(table).await?;
        }
        report.duration = self.since(batch.begun);
        Ok(report)
    }

    async fn commit_answer(&self, batch: replica::Batch) -> Result<(), SyncError> {
        match self.commit_batch(batch).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Stale => Err(SyncError::SessionEnded),
        }
    }

    fn count(&self, report: &mut DrainReport, outcome: EntryOutcome) {
        match outcome {
            EntryOutcome::Pushed { key, .. } => {
                report.pushed += 1;
                self.tell(SyncEvent::Pushed { key });
            }
            EntryOutcome::Conflict { .. } => report.conflicts += 1,
            EntryOutcome::Retry { entry, retry_at, code, message } => {
                report.retried += 1;
                let error = format!("{code}: {message}");
                self.tell(SyncEvent::RetryScheduled { entry, next_retry_at: retry_at, error });
            }
            EntryOutcome::Dead { entry, code, message } => {
                report.dead_letters += 1;
                self.tell(SyncEvent::PoisonPill { entry, error: format!("{code}: {message}") });
            }
        }
    }

    /// A single record, or transaction, that the server finds too large will not shrink. An earlier copy of the request may have got
    /// through all the same: the pull finds out, and then there is nothing to give up.
    async fn bury_oversize(&self, entries: &[Entry]) -> Result<(), SyncError> {
        let tables: BTreeSet<&TableName> = entries.iter().map(|entry| &entry.key.table).collect();
        let mut unsettled = BTreeSet::new();
        for table in tables {
            self.pull_table(table).await?;
            let of_table = self.replica.unsettled(table, usize::MAX >> 1).await?;
            unsettled.extend(of_table.into_iter().map(|entry| entry.counter));
        }
        let message = match entries {
            [_] => "the record alone is larger than the server takes",
            _ => "the transaction alone is larger than the server takes",
        };
        let given_up = entries.iter().filter(|entry| unsettled.contains(&entry.counter));
        let bury = |entry: &Entry| Op::Bury {
            key: entry.key.clone(),
            counter: entry.counter,
            code: "too_large".to_owned(),
            message: message.to_owned(),
            at: self.clock.now(),
            revert: if self.config.keep_refused { Revert::Keep } else { Revert::ToBase },
        };
        let state = self.state().await?;
        self.commit_in(state.generation, given_up.clone().map(bury).collect()).await?;
        for entry in given_up {
            self.tell(SyncEvent::PoisonPill { entry: entry.clone(), error: format!("too_large: {message}") });
        }
        Ok(())
    }
}

impl<'a> Drain<'a> {
    fn new(driver: &'a Driver) -> Self {
        let records = driver.config.batch_size.max(1);
        Self { driver, report: DrainReport::default(), records, in_vain: 0, next: None, taken: None }
    }

    /// Pushes so many batches, or until nothing is left.
    async fn run(&mut self, mut batches: u64) -> Result<(), SyncError> {
        let mut refused = 0;
        while batches > 0 {
            let batch = match self.next.take() {
                Some(batch) => batch,
                None => {
                    self.settle().await?;
                    match self.driver.next_batch(self.records).await? {
                        Some(batch) => batch,
                        None => return Ok(()),
                    }
                }
            };
            batches -= 1;
            if self.push(batch, batches > 0).await? {
                refused = 0;
                continue;
            }
            (batches, refused) = (batches + 1, refused + 1);
            if refused == Driver::REPLANS {
                return Err(SyncError::Contention("queue".to_owned()));
            }
        }
        Ok(())
    }

    /// Pushes a batch, and prepares the `next` meanwhile. Answers false where the call was refused as a whole, and what is due has to
    /// be read again.
    async fn push(&mut self, mut batch: Batch, next: bool) -> Result<bool, SyncError> {
        if !self.is_current(&mut batch).await? {
            return Ok(false);
        }
        let (driver, records, under_way) = (self.driver, self.records, batch.prepared.entries.len());
        let looks_ahead = next && self.is_full(&batch);
        let meanwhile = async {
            self.settle().await?;
            if looks_ahead { driver.look_ahead(under_way, records).await } else { Ok(None) }
        };
        let call = trace::push(under_way, batch.bytes);
        let push = driver.remote.push(&batch.prepared.request).instrument(call.clone());
        // In this order: the replica is at work by the time that the request is encoded.
        let (ahead, answer) = join(meanwhile, push).await;
        trace::end_call(&call, &answer);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.refused(&batch, error).await?;
                // What was marked meanwhile is read again.
                return ahead.map(|_| false);
            }
        };
        let taken = Taken { batch, answer };
        if taken.in_full() {
            self.taken = Some(taken);
            self.next = ahead?;
        } else {
            self.take(taken).await?;
            ahead?;
        }
        Ok(true)
    }

    /// Whether there may be more than fits.
    fn is_full(&self, batch: &Batch) -> bool {
        batch.prepared.entries.len() >= self.records || batch.bytes > self.driver.config.max_batch_bytes / 2
    }

    /// Brings a batch that was prepared earlier up to what is known now. Answers false where it is no longer to be sent like this: the
    /// replica has another identity, or a table is pulled from the beginning again.
    async fn is_current(&self, batch: &mut Batch) -> Result<bool, SyncError> {
        let Some(last) = &self.taken else { return Ok(true) };
        let now = self.driver.state().await?;
        let phase = |state: &State, table: &TableName| state.table(table).map(|table| table.phase);
        let tables: BTreeSet<&TableName> =
            batch.prepared.entries.iter().map(|entry| &entry.key.table).collect();
        if now.replica != batch.state.replica
            || tables.into_iter().any(|table| phase(&now, table) != phase(&batch.state, table))
        {
            return Ok(false);
        }
        for (table, moved) in &last.answer.heads {
            if let Some(seen) = batch.prepared.request.seen.get_mut(table) {
                seen.clone_from(&moved.after);
            }
        }
        Ok(true)
    }

    /// Puts in the queue what was answered last.
    async fn settle(&mut self) -> Result<(), SyncError> {
        match self.taken.take() {
            Some(taken) => self.take(taken).await,
            None => Ok(()),
        }
    }

    async fn take(&mut self, Taken { batch, answer }: Taken) -> Result<(), SyncError> {
        let report = self.driver.take_answer(&batch, &answer).await?;
        let moved = report.pushed + report.retried + report.dead_letters > 0;
        self.in_vain = if moved { 0 } else { self.in_vain + 1 };
        self.report.add(&report);
        if self.in_vain == Driver::REPLANS {
            // Others change the same records faster than this device can, or the server is broken.
            return Err(SyncError::Contention("queue".to_owned()));
        }
        Ok(())
    }

    /// What a call means that was refused as a whole.
    async fn refused(&mut self, batch: &Batch, error: RemoteError) -> Result<(), SyncError> {
        let entries = &batch.prepared.entries;
        match error {
            RemoteError::TooLarge if is_one(entries) => self.driver.bury_oversize(entries).await,
            RemoteError::TooLarge => {
                self.records = (entries.len() / 2).max(1);
                Ok(())
            }
            RemoteError::ReplicaForked => self.driver.rename(&batch.state).await,
            error => {
                self.driver.blame(entries).await?;
                Err(error.into())
            }
        }
    }
}

/// Whether entries cannot be sent in smaller batches.
fn is_one(entries: &[Entry]) -> bool {
    entries.windows(2).all(|pair| pair[0].transaction.is_some() && pair[0].transaction == pair[1].transaction)
}

impl Taken {
    /// Whether everything was taken as it was sent: nothing that it was made on top of has changed, and the next batch, which was
    /// read before, is as it would be read now.
    fn in_full(&self) -> bool {
        let plain = |result: &PushResult| {
            matches!(
                result,
                PushResult::Applied { record: None, .. } | PushResult::Duplicate { record: None, .. }
            )
        };
        self.answer.results.len() == self.batch.prepared.entries.len()
            && self.answer.results.iter().all(plain)
    }
}
