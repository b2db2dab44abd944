//! [`Driver`]: the engine's jobs, without a thread.

use std::{
    fmt,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dynos_sync_core::{
    Clock, Generation, HybridClock, Millis, Remote, RemoteError, Replica, TableName,
    replica::{Batch, Op, Outcome, Receipt, State, TableState},
    sabotage::{Mutant, is_on},
    wire::{Heads, HeadsRequest},
};
use futures_util::FutureExt;
use tracing::Instrument;

use crate::{
    config::SyncConfig,
    error::SyncError,
    event::{EventStream, Events, SyncEvent},
    metrics::{Counted, Metrics},
    observe::Observed,
    session::{Leaving, Read, Session},
    trace::{self, Job, Report},
};

/// Draws evenly distributed numbers.
pub(crate) type Random = Box<dyn Fn() -> u64 + Send + Sync>;

/// The engine's jobs, each a future that the caller drives: for simulators, and for applications with their own idea of
/// threads. [`SyncEngine`](crate::SyncEngine) runs one on a thread of its own.
///
/// Only one drain or pull may run at a time; the engine sees to that.
pub struct Driver {
    pub(crate) replica: Arc<dyn Replica>,
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: SyncConfig,
    pub(crate) events: Events,
    pub(crate) observed: Observed,
    edits: HybridClock,
    random: Random,
    /// Whether the server has been asked who it is, and whether it knows this replica, since the driver was made.
    met: AtomicBool,
    /// Whether it was seen to that no part of a snapshot lies around.
    pub(crate) has_swept: AtomicBool,
    session: Session,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replica, remote, config, .. } = self;
        f.debug_struct("Driver")
            .field("replica", replica)
            .field("remote", remote)
            .field("config", config)
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// How often a plan is made again when the database changed under it, before giving up for now.
    pub(crate) const REPLANS: usize = 100;

    /// Puts the parts together. `random` draws evenly distributed numbers for the jitter of pauses.
    ///
    /// # Errors
    /// [`SyncError::Replica`] where the database cannot be read.
    pub async fn new(
        replica: Arc<dyn Replica>,
        remote: Arc<dyn Remote>,
        clock: Arc<dyn Clock>,
        config: SyncConfig,
        random: Box<dyn Fn() -> u64 + Send + Sync>,
    ) -> Result<Self, SyncError> {
        let edits = HybridClock::new(0);
        let (met, session, events) = (AtomicBool::new(false), Session::default(), Events::new());
        let has_swept = AtomicBool::new(false);
        let driver = Self {
            replica,
            remote,
            clock,
            config,
            events,
            observed: Observed::default(),
            edits,
            random,
            met,
            has_swept,
            session,
        };
        driver.begin_session().await?;
        Ok(driver)
    }

    /// Events from now on, as [`SyncEngine::events`](crate::SyncEngine::events).
    pub fn events(&self) -> EventStream {
        let clock = Arc::clone(&self.clock);
        self.events.stream(move || clock.now())
    }

    /// Goes on with the session that is in the database now. After a logout it belongs to no server, and to no user.
    pub(crate) async fn begin_session(&self) -> Result<(), SyncError> {
        self.met.store(false, Ordering::Release);
        self.observed.begin_session();
        let reading = self.session.read();
        let state = self.replica.state().await?;
        self.edits.observe(state.clock);
        self.session.begin(reading, &state);
        Ok(())
    }

    /// The session that this engine is in.
    pub(crate) fn session(&self) -> Generation {
        self.session.generation()
    }

    /// The session that an edit is a part of that begins now.
    ///
    /// # Errors
    /// [`SyncError::SessionEnded`] while it is being ended: whoever asked for the edit cannot know yet whether the next one has begun.
    pub(crate) fn editing(&self) -> Result<Generation, SyncError> {
        if self.session.is_being_left() {
            return Err(SyncError::SessionEnded);
        }
        Ok(self.session())
    }

    /// Has no edit begin until the answer is dropped.
    pub(crate) fn leave(&self) -> Leaving<'_> {
        self.session.leave()
    }

    /// Whether another process was seen to have ended the session.
    pub(crate) fn session_is_over(&self) -> bool {
        self.session.is_over()
    }

    /// The replica as a whole; the driver remembers the tables of it.
    ///
    /// # Errors
    /// [`SyncError::SessionEnded`] where another process has logged out: what follows is somebody else's.
    pub(crate) async fn state(&self) -> Result<State, SyncError> {
        loop {
            let reading = self.session.read();
            let state = self.replica.state().await?;
            match self.session.remember(reading, &state) {
                Read::Current => {
                    self.edits.observe(state.clock);
                    return Ok(state);
                }
                Read::Late => {}
                Read::Ended => return Err(SyncError::SessionEnded),
            }
        }
    }

    pub(crate) fn table(&self, name: &TableName) -> Option<TableState> {
        self.session.table(name)
    }

    /// The time for a new edit.
    pub(crate) fn stamp(&self) -> Millis {
        self.edits.tick(self.clock.now())
    }

    pub(crate) fn random(&self) -> u64 {
        (self.random)()
    }

    pub(crate) fn tell(&self, event: SyncEvent) {
        let now = self.clock.now();
        self.observed.note(now, &event);
        self.events.send(now, event);
    }

    /// Does a job in its span, and remembers how it ended, be it in a panic.
    pub(crate) fn observe<T: Report>(
        &self,
        job: Job,
        work: impl Future<Output = Result<T, SyncError>> + Send,
    ) -> impl Future<Output = Result<T, SyncError>> + Send {
        let work = AssertUnwindSafe(Self::traced(job, work)).catch_unwind();
        async move {
            let ended = work.await;
            let error = ended.as_ref().map_or(Some(&SyncError::Panicked), |result| result.as_ref().err());
            self.observed.ended(self.clock.now(), job, error);
            ended.unwrap_or_else(|panic| resume_unwind(panic))
        }
    }

    /// Does a job, or a part of another one, in its span. Jobs are large as futures, and each that holds another would be larger: it is
    /// put in a box.
    pub(crate) fn traced<T: Report>(
        job: Job,
        work: impl Future<Output = Result<T, SyncError>> + Send,
    ) -> impl Future<Output = Result<T, SyncError>> + Send {
        let (span, work) = (trace::job(job), Box::pin(work));
        async move {
            let result = work.instrument(span.clone()).await;
            if let Ok(report) = &result {
                report.record(&span);
            }
            trace::end(&span, &result);
            result
        }
    }

    /// What was done since the driver was made, in numbers.
    pub fn metrics(&self) -> Metrics {
        self.observed.metrics()
    }

    /// The time since `start`.
    pub(crate) fn since(&self, start: Millis) -> Duration {
        Duration::from_millis(u64::try_from(self.clock.now() - start).unwrap_or(0))
    }

    /// Commits what does not depend on what was read.
    pub(crate) async fn commit(&self, ops: Vec<Op>) -> Result<Receipt, SyncError> {
        self.commit_in(self.session(), ops).await
    }

    /// Commits what was asked for in a session, unless a logout came in between.
    pub(crate) async fn commit_in(&self, session: Generation, ops: Vec<Op>) -> Result<Receipt, SyncError> {
        let mut batch = Batch { ops, ..Batch::default() };
        batch.expected.generation = Some(session);
        match self.commit_batch(batch).await? {
            Outcome::Committed(receipt) => Ok(receipt),
            Outcome::Stale => Err(SyncError::SessionEnded),
        }
    }

    /// Commits a batch that was planned from what was read.
    pub(crate) async fn commit_batch(&self, batch: Batch) -> Result<Outcome, SyncError> {
        let span = trace::commit(batch.ops.len());
        let result = self.replica.commit(batch).instrument(span.clone()).await.map_err(SyncError::from);
        trace::end_commit(&span, &result);
        if matches!(result, Ok(Outcome::Stale)) {
            self.observed.add(Counted::StaleCommits, 1);
        }
        result
    }

    /// Asks the server for heads, and makes sure that it is the one that the database belongs to and that nobody else uses
    /// this replica's identity.
    pub(crate) async fn heads(&self, tables: Vec<TableName>) -> Result<Heads, SyncError> {
        let before = self.state().await?;
        let heads = self.remote.heads(HeadsRequest { replica: before.replica, tables }).await?;
        // Read again: another process on this file may have pushed meanwhile.
        let state = self.state().await?;
        match &state.server {
            Some(bound) if *bound == heads.server => {}
            Some(bound) => {
                return Err(SyncError::WrongServer { bound: bound.clone(), found: heads.server });
            }
            None => {
                drop(
                    self.commit_in(state.generation, vec![Op::Bind { server: heads.server.clone() }]).await?,
                );
            }
        }
        // New edits have numbers of their own by now, which may hide that others were used: what counts is what was sent.
        let known = if is_on(Mutant::CopyHidden) { state.last_counter } else { state.last_sent };
        let copied = heads.last_counter > known && !is_on(Mutant::CopyUnnoticed);
        if state.replica == before.replica && copied {
            // This file was restored from an older copy: its numbers have been used for other entries.
            self.rename(&state).await?;
        }
        self.met.store(true, Ordering::Release);
        Ok(heads)
    }

    /// Whether the server has been met. Nothing is sent before: an entry under a used number could be taken for a repeat.
    pub(crate) fn has_met(&self) -> bool {
        self.met.load(Ordering::Acquire)
    }

    /// Tells the server what the tables look like that it has not been told of.
    pub(crate) async fn declare(&self, state: &State) -> Result<(), SyncError> {
        let new: Vec<_> =
            state.tables.iter().filter(|table| !table.declared).map(|table| table.spec.clone()).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.remote.declare(&new).await?;
        let ops = new.into_iter().map(|spec| Op::Declared { table: spec.name }).collect();
        self.commit_in(state.generation, ops).await.map(drop)
    }

    /// The server says that another database uses this one's identity.
    pub(crate) async fn rename(&self, state: &State) -> Result<(), SyncError> {
        self.commit_in(state.generation, vec![Op::Rename]).await.map(drop)
    }

    pub(crate) fn protocol(problem: String) -> SyncError {
        SyncError::Remote(RemoteError::Protocol(problem))
    }
}
