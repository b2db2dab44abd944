//! Pushing what is queued.

use std::collections::BTreeSet;

use dynos_sync_core::{
    Entry, Millis, RemoteError, TableName, measure,
    plan::push::{self, Answered, EntryOutcome, Prepared, RetryRules},
    replica::{Batch, DueLimits, Op, Outcome, Phase, Revert, State},
    sabotage::{Mutant, is_on},
    wire::PushAnswer,
};

use crate::{driver::Driver, error::SyncError, event::SyncEvent, report::DrainReport};

/// What one cycle found.
enum Cycle {
    /// Something was sent.
    Sent(DrainReport),
    /// Nothing can be sent now.
    Idle,
}

impl Driver {
    /// Pushes until nothing is left that can be pushed now, of what was queued when it began.
    ///
    /// # Errors
    /// See [`SyncEngine::drain`](crate::SyncEngine::drain).
    pub async fn drain(&self) -> Result<DrainReport, SyncError> {
        let start = self.clock.now();
        let mut total = DrainReport::default();
        let mut in_vain = 0;
        // Every cycle deals with a record at least. Who goes on writing meanwhile does not keep the drain from ending.
        let mut cycles = self.state().await?.pending.saturating_add(Self::REPLANS as u64);
        while cycles > 0
            && let Cycle::Sent(cycle) = self.cycle().await?
        {
            cycles -= 1;
            total.add(&cycle);
            let moved = cycle.pushed + cycle.retried + cycle.dead_letters > 0;
            in_vain = if moved { 0 } else { in_vain + 1 };
            if in_vain == Self::REPLANS {
                // Others change the same records faster than this device can, or the server is broken.
                return Err(SyncError::Contention("queue".to_owned()));
            }
        }
        total.duration = self.since(start);
        self.tell(SyncEvent::DrainComplete(total.clone()));
        Ok(total)
    }

    /// Pushes one batch.
    ///
    /// # Errors
    /// See [`SyncEngine::drain`](crate::SyncEngine::drain).
    pub async fn drain_once(&self) -> Result<DrainReport, SyncError> {
        match self.cycle().await? {
            Cycle::Sent(report) => Ok(report),
            Cycle::Idle => Ok(DrainReport::default()),
        }
    }

    /// Whether anything can be sent now.
    pub(crate) async fn has_due(&self) -> Result<bool, SyncError> {
        Ok(!self.replica.due(&self.limits(1, 0)).await?.groups.is_empty())
    }

    fn limits(&self, records: usize, bytes: usize) -> DueLimits {
        let longest_wait = match Millis::try_from(self.config.max_backoff.as_millis()) {
            Ok(longest) if !is_on(Mutant::ClockSetBack) => longest,
            _ => Millis::MAX,
        };
        DueLimits { now: self.clock.now(), longest_wait, records, bytes }
    }

    async fn cycle(&self) -> Result<Cycle, SyncError> {
        let start = self.clock.now();
        let mut records = self.config.batch_size.max(1);
        let mut begun = BTreeSet::new();
        for _ in 0..Self::REPLANS {
            let due = self.replica.due(&self.limits(records, self.config.max_batch_bytes)).await?;
            if due.groups.is_empty() {
                return Ok(Cycle::Idle);
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
            let prepared = push::prepare(&state, due.groups);
            if !self.mark_sent(&prepared).await? {
                continue;
            }
            match self.remote.push(&prepared.request).await {
                Ok(answer) => {
                    let mut report = self.take_answer(&state, &prepared, &answer).await?;
                    report.duration = self.since(start);
                    return Ok(Cycle::Sent(report));
                }
                Err(RemoteError::TooLarge) => match prepared.entries.as_slice() {
                    [entry] => self.bury_oversize(entry).await?,
                    entries => records = entries.len() / 2,
                },
                Err(RemoteError::ReplicaForked) => self.rename(&state).await?,
                Err(error) => {
                    self.blame(&prepared.entries).await?;
                    return Err(error.into());
                }
            }
        }
        Err(SyncError::Contention("queue".to_owned()))
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
    async fn mark_sent(&self, prepared: &Prepared) -> Result<bool, SyncError> {
        if prepared.batch.ops.is_empty() {
            return Ok(true);
        }
        Ok(self.replica.commit(prepared.batch.clone()).await? != Outcome::Stale)
    }

    async fn take_answer(
        &self,
        state: &State,
        prepared: &Prepared,
        answer: &PushAnswer,
    ) -> Result<DrainReport, SyncError> {
        let rules = RetryRules {
            max_retries: self.config.max_retries,
            backoff: self.config.backoff(),
            keep_refused: self.config.keep_refused,
            now: self.clock.now(),
        };
        let answered = push::answer(state, &prepared.entries, answer, &rules, || self.random());
        let Answered { batch, outcomes, pull } = answered.map_err(Self::protocol)?;
        self.commit_answer(batch).await?;
        let mut report = DrainReport { cycles: 1, bytes: bytes(&prepared.entries), ..DrainReport::default() };
        for outcome in outcomes {
            self.count(&mut report, outcome);
        }
        // A conflict is decided in one place: where the change that was in the way is applied.
        for table in &pull {
            self.pull_table(table).await?;
        }
        Ok(report)
    }

    async fn commit_answer(&self, batch: Batch) -> Result<(), SyncError> {
        match self.replica.commit(batch).await? {
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

    /// A single record that the server finds too large will not shrink. An earlier copy of the request may have got through
    /// all the same: the pull finds out, and then there is nothing to give up.
    async fn bury_oversize(&self, entry: &Entry) -> Result<(), SyncError> {
        let table = &entry.key.table;
        self.pull_table(table).await?;
        let state = self.state().await?;
        let unsettled = self.replica.unsettled(table, usize::MAX >> 1).await?;
        let Some(entry) = unsettled.into_iter().find(|unsettled| unsettled.counter == entry.counter) else {
            return Ok(());
        };
        let message = "the record alone is larger than the server takes".to_owned();
        let bury = Op::Bury {
            key: entry.key.clone(),
            counter: entry.counter,
            code: "too_large".to_owned(),
            message: message.clone(),
            at: self.clock.now(),
            revert: if self.config.keep_refused { Revert::Keep } else { Revert::ToBase },
        };
        self.commit_in(state.generation, vec![bury]).await?;
        self.tell(SyncEvent::PoisonPill { entry, error: format!("too_large: {message}") });
        Ok(())
    }
}

fn bytes(entries: &[Entry]) -> usize {
    entries.iter().filter_map(|entry| measure(entry.edit.fields()?).ok()).sum()
}
