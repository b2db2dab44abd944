//! The one thread that writes. It commits the batches that wait together in one transaction.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use dynos_sync_core::{
    ReplicaError,
    replica::{Batch, Outcome},
    sabotage::{Mutant, is_on},
};
use futures_channel::oneshot;
use rusqlite::Connection;

use crate::{
    admin,
    checkpoint::Checkpointer,
    collect,
    commit::{commit, is_local, is_to_be_sent, rename, touched},
    desk::{Clerk, Seat},
    error::{Result, caught, of_theirs, translate},
    header::Header,
    hub::{Hub, Touched},
    pace::Pace,
    random::Random,
    replica::{SqliteOptions, Synchronous},
    session::Session,
    sql::exec,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, TryRecvError},
    },
    table::Catalog,
    transaction,
};

/// Something for the writer to do.
pub(crate) enum Job {
    Commit(Batch, oneshot::Sender<Result<Outcome>>),
    Run(Box<dyn FnOnce(&mut Writer) -> Answer + Send>),
}

/// Tells whoever waits for a job what came of it. It is called when nobody is at the desk: who is woken by it may have something small to
/// do there.
pub(crate) type Answer = Box<dyn FnOnce()>;

/// The writing connection, and what it knows.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) db: Connection,
    catalog: Catalog,
    foreign_keys: Option<bool>,
    temporary_files: Option<bool>,
    synchronous: Synchronous,
    /// Whether the next commit is durable whatever was chosen.
    durable: bool,
    /// Whether everything that the file held when it was opened is durable.
    vouched: bool,
    random: Random,
    /// See [`Session::CALM`].
    calm: Cell<u32>,
    /// Who moves the log into the file. Without one, commits do.
    checkpointer: Option<Checkpointer>,
    /// How long small commits that wait for the disk take.
    pace: Pace,
    busy_timeout: Duration,
    /// Who is told of commits.
    hub: Arc<Hub>,
    /// What SQLite says of the commits of other connections, as it was looked at last.
    others: i64,
}

type Waiting = (Batch, oneshot::Sender<Result<Outcome>>);

impl Clerk for Writer {
    type Job = Job;

    fn work(&mut self, job: Job) {
        match job {
            Job::Run(run) => run(self)(),
            Job::Commit(batch, reply) => drop(reply.send(self.commit_alone(&batch))),
        }
    }

    /// A few local edits that do not wait for the disk for long, nor for anybody else.
    fn work_at_once(&mut self, job: Job) -> Option<Job> {
        let Job::Commit(batch, reply) = job else { return Some(job) };
        if !self.takes_no_time(&batch) {
            return Some(Job::Commit(batch, reply));
        }
        match self.commit_at_once(&batch) {
            Ok(None) | Err(ReplicaError::Busy) => return Some(Job::Commit(batch, reply)),
            Ok(Some(outcome)) => drop(reply.send(Ok(outcome))),
            Err(error) => drop(reply.send(Err(error))),
        }
        None
    }
}

impl Writer {
    /// The most batches that one transaction commits.
    const GROUP: usize = 256;

    pub(crate) fn new(db: Connection, options: &SqliteOptions, hub: Arc<Hub>) -> Self {
        Self {
            db,
            catalog: Catalog::default(),
            foreign_keys: None,
            temporary_files: None,
            synchronous: options.synchronous,
            durable: false,
            vouched: false,
            random: options.random.clone(),
            calm: Cell::new(Session::CALM),
            checkpointer: None,
            pace: Pace::default(),
            busy_timeout: options.busy_timeout,
            hub,
            others: 0,
        }
    }

    /// Leaves the log to somebody else from now on.
    pub(crate) fn leave_log_to(&mut self, checkpointer: Checkpointer, due: Sender<()>) -> Result<()> {
        checkpointer.watch(&mut self.db, due)?;
        self.checkpointer = Some(checkpointer);
        Ok(())
    }

    /// Works until nobody is left to ask.
    pub(crate) fn run(seat: &Seat<Self>, jobs: &Receiver<Job>) {
        let mut next = jobs.recv().ok();
        while let Some(job) = next.take() {
            seat.invite();
            let mut clerk = seat.clerk();
            seat.begun();
            let Some(writer) = clerk.as_mut() else { return };
            if let Some(checkpointer) = &writer.checkpointer {
                checkpointer.catch_up();
            }
            let answers = match job {
                Job::Run(run) => vec![run(writer)],
                Job::Commit(batch, reply) => {
                    let (group, other) = gather(seat, jobs, (batch, reply));
                    next = other;
                    seat.came(group.len());
                    writer.commit_group(group)
                }
            };
            drop(clerk);
            answers.into_iter().for_each(|answer| answer());
            next = next.or_else(|| jobs.recv().ok());
        }
        drop(seat.clerk().take());
    }

    /// Whether other connections have committed since this was asked last.
    pub(crate) fn others_have_committed(&mut self) -> Result<bool> {
        let mut statement = self.db.prepare_cached("PRAGMA data_version").map_err(translate)?;
        let others: i64 = statement.query_row([], |row| row.get(0)).map_err(of_theirs)?;
        Ok(std::mem::replace(&mut self.others, others) != others)
    }

    fn takes_no_time(&self, batch: &Batch) -> bool {
        is_small(batch)
            && (self.synchronous == Synchronous::Normal || self.pace.is_quick())
            && !self.checkpointer.as_ref().is_some_and(Checkpointer::is_overdue)
    }

    /// Runs a commit, and takes note of how long it took where that says something of the disk. (Without threads nobody asks, and there may be
    /// no clock.)
    fn timed<T>(&mut self, batch: &Batch, commit: impl FnOnce(&mut Self) -> T) -> T {
        let is_telling =
            self.synchronous == Synchronous::Full && self.checkpointer.is_some() && is_small(batch);
        let start = is_telling.then(Instant::now);
        let done = commit(self);
        if let Some(start) = start {
            self.pace.took(start.elapsed());
        }
        done
    }

    /// Commits a batch, without waiting for another program; `None` where others' writes are to be collected first.
    fn commit_at_once(&mut self, batch: &Batch) -> Result<Option<Outcome>> {
        self.set_temporary_files(false)?;
        self.set_foreign_keys(true)?;
        self.set_durable(false)?;
        self.db.busy_timeout(Duration::ZERO).map_err(of_theirs)?;
        let work = |session: &mut Session<'_>| match collect::is_due(session.db)? {
            true => Ok(None),
            false => commit(session, batch).map(Some),
        };
        let done = self.timed(batch, |this| {
            this.transaction_untold(work, |outcome| outcome.as_ref().is_none_or(is_done))
        });
        self.tell([batch]);
        self.db.busy_timeout(self.busy_timeout).map_err(of_theirs)?;
        done
    }

    fn commit_group(&mut self, group: Vec<Waiting>) -> Vec<Answer> {
        let together = if group.len() > 1 { self.try_together(&group) } else { None };
        // Alone, or together impossible: then each shows for itself which one is at fault.
        let outcomes = match together {
            Some(outcomes) => outcomes,
            None => group.iter().map(|(batch, _)| self.commit_alone(batch)).collect(),
        };
        let answer = |((_, reply), outcome): (Waiting, Result<Outcome>)| -> Answer {
            Box::new(move || drop(reply.send(outcome)))
        };
        group.into_iter().zip(outcomes).map(answer).collect()
    }

    fn commit_alone(&mut self, batch: &Batch) -> Result<Outcome> {
        self.set_temporary_files(false)?;
        self.set_foreign_keys(is_local(batch))?;
        self.set_durable(is_to_be_sent(batch))?;
        // Not as a part of a transaction: undone with all of it, nothing has to be kept to undo it alone.
        let work = |session: &mut Session<'_>| {
            collect::collect(session)?;
            commit(session, batch)
        };
        let done = self.timed(batch, |this| this.transaction_untold(work, is_done));
        self.tell([batch]);
        done
    }

    fn try_together(&mut self, group: &[Waiting]) -> Option<Vec<Result<Outcome>>> {
        self.set_temporary_files(false).ok()?;
        self.set_foreign_keys(is_local(&group.first()?.0)).ok()?;
        self.set_durable(group.iter().any(|(batch, _)| is_to_be_sent(batch))).ok()?;
        let done = self.try_all(group).or_else(|| self.try_each(group));
        self.tell(group.iter().map(|(batch, _)| batch));
        done
    }

    /// In one piece: mostly all of them can be done.
    fn try_all(&mut self, group: &[Waiting]) -> Option<Vec<Result<Outcome>>> {
        let work = |session: &mut Session<'_>| {
            collect::collect(session)?;
            group.iter().map(|(batch, _)| commit(session, batch)).collect::<Result<Vec<Outcome>>>()
        };
        let all = self.transaction_untold(work, |outcomes| outcomes.iter().all(is_done)).ok()?;
        all.iter().all(is_done).then(|| all.into_iter().map(Ok).collect())
    }

    /// Each as a part that is undone alone.
    fn try_each(&mut self, group: &[Waiting]) -> Option<Vec<Result<Outcome>>> {
        let work = |session: &mut Session<'_>| {
            collect::collect(session)?;
            let each = |(batch, _): &Waiting| session.part(|session| commit(session, batch), is_done);
            Ok(group.iter().map(each).collect())
        };
        self.transaction_untold(work, |_| true).ok()
    }

    /// Tells whoever listens what batches may have changed. One that was not carried out has changed nothing, which they will see.
    fn tell<'a>(&self, batches: impl IntoIterator<Item = &'a Batch>) {
        if self.hub.is_heard() {
            match touched(&self.catalog, batches) {
                Some(tables) => self.hub.tell(&Touched::Tables(&tables)),
                None => self.hub.tell(&Touched::Anything),
            }
        }
    }

    /// Whether the application's foreign keys hold for what follows. Has no effect inside a transaction.
    pub(crate) fn set_foreign_keys(&mut self, on: bool) -> Result<()> {
        if self.foreign_keys != Some(on) {
            self.db.pragma_update(None, "foreign_keys", on).map_err(of_theirs)?;
            self.foreign_keys = Some(on);
        }
        Ok(())
    }

    /// Whether what follows is durable, whatever was chosen for edits. What the server is told this device must not forget: it
    /// would use the numbers again. Has no effect inside a transaction.
    fn set_durable(&mut self, on: bool) -> Result<()> {
        if self.durable != on && self.synchronous != Synchronous::Full && !is_on(Mutant::SentUnsynced) {
            let level = if on { Synchronous::Full } else { self.synchronous };
            self.db.pragma_update(None, "synchronous", level.name()).map_err(translate)?;
            self.durable = on;
        }
        Ok(())
    }

    /// Makes durable what the file held when it was opened, before what is marked as sent in it is sent again: perhaps it never
    /// was. A program that was killed between writing and syncing has left the mark in the system's cache alone, where SQLite
    /// takes it for committed.
    pub(crate) fn vouch(&mut self) -> Result<()> {
        if self.vouched {
            return Ok(());
        }
        self.set_durable(true)?;
        // Something has to change, for SQLite to have something to sync.
        self.transaction(|session| session.set_awake(false))?;
        self.vouched = true;
        Ok(())
    }

    /// Whether SQLite may put old versions of pages into a temporary file while a statement runs, which is then somewhere
    /// else than the database. Without, they are kept in memory: for what is of bounded size. Has no effect inside a transaction.
    pub(crate) fn set_temporary_files(&mut self, allowed: bool) -> Result<()> {
        if self.temporary_files != Some(allowed) {
            let store = if allowed { "DEFAULT" } else { "MEMORY" };
            self.db.pragma_update(None, "temp_store", store).map_err(of_theirs)?;
            self.temporary_files = Some(allowed);
        }
        Ok(())
    }

    /// Runs a transaction that may write. Whatever `work` has done is undone when it fails.
    pub(crate) fn transaction<T>(&mut self, work: impl FnOnce(&mut Session<'_>) -> Result<T>) -> Result<T> {
        self.transaction_if(work, |_| true)
    }

    /// As [`transaction`](Self::transaction); it is undone as well where its result is not to be kept.
    pub(crate) fn transaction_if<T>(
        &mut self,
        work: impl FnOnce(&mut Session<'_>) -> Result<T>,
        keep: impl FnOnce(&T) -> bool,
    ) -> Result<T> {
        let before = self.db.total_changes();
        let done = self.transaction_untold(work, keep);
        if self.db.total_changes() != before && self.hub.is_heard() {
            self.hub.tell(&Touched::Anything);
        }
        done
    }

    /// As [`transaction_if`](Self::transaction_if); whoever runs it tells those who listen.
    fn transaction_untold<T>(
        &mut self,
        work: impl FnOnce(&mut Session<'_>) -> Result<T>,
        keep: impl FnOnce(&T) -> bool,
    ) -> Result<T> {
        exec(&self.db, "BEGIN IMMEDIATE")?;
        let result = match caught(|| self.within(work)) {
            Ok(value) if keep(&value) => exec(&self.db, "COMMIT").map(|()| value),
            other => other,
        };
        let undone = !self.db.is_autocommit();
        if undone || result.is_err() {
            // What was read of the tables may be undone, too.
            self.catalog = Catalog::default();
        }
        if undone {
            exec(&self.db, "ROLLBACK")?;
        }
        result
    }

    fn within<T>(&mut self, work: impl FnOnce(&mut Session<'_>) -> Result<T>) -> Result<T> {
        let mut header = Header::read(&self.db)?;
        if refresh(&self.db, &mut self.catalog, &header)? && self.catalog.all().any(|table| table.outdated) {
            let mut session = Session::new(&self.db, &self.catalog, header.clone(), &self.random, &self.calm);
            admin::refresh(&mut session)?;
            session.finish(&header)?;
            header = Header::read(&self.db)?;
            refresh(&self.db, &mut self.catalog, &header)?;
        }
        let mut session = Session::new(&self.db, &self.catalog, header.clone(), &self.random, &self.calm);
        let value = work(&mut session)?;
        session.finish(&header)?;
        Ok(value)
    }

    /// Collects what programs have written, a piece a transaction, so that none waits long for the other.
    pub(crate) fn collect(&mut self) -> Result<()> {
        self.set_temporary_files(false)?;
        while collect::is_due(&self.db)? {
            self.transaction(|session| collect::collect_some(session).map(drop))?;
        }
        Ok(())
    }

    /// What is done first to a file that has its tables: looks after it, and makes it this device's own.
    pub(crate) fn begin(&mut self, file: Option<String>) -> Result<()> {
        self.mend()?;
        self.claim(file)?;
        match self.unblock().and_then(|()| self.scrub()) {
            Ok(()) | Err(ReplicaError::Busy) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Has transactions looked at anew that were found not to be ready: should the file be damaged there, they would never be.
    fn unblock(&mut self) -> Result<()> {
        match transaction::is_any_blocked(&self.db)? {
            true => self.transaction(|session| transaction::unblock_all(session.db)),
            false => Ok(()),
        }
    }

    /// As after opening the file, but for what is known of its tables, if that is not to be forgotten too.
    #[cfg(fuzzing)]
    pub(crate) fn forget(&mut self, tables: bool) {
        self.vouched = false;
        if tables {
            self.catalog = Catalog::default();
        }
    }

    /// Recognises a copy of another database by its file: two files with one identity would give the same numbers to
    /// different entries.
    pub(crate) fn claim(&mut self, file: Option<String>) -> Result<()> {
        let known = Header::read(&self.db)?.file;
        if file.is_none() || known == file {
            return Ok(());
        }
        self.transaction(|session| {
            if session.header.file.is_some() {
                rename(session)?;
            }
            session.header.file = file;
            Ok(())
        })
    }

    /// Everything that `look` reads is of one moment.
    pub(crate) fn at_one_moment<T>(&self, look: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.db.execute_batch("BEGIN").map_err(of_theirs)?;
        let seen = look(&self.db);
        if !self.db.is_autocommit() {
            self.db.execute_batch("COMMIT").map_err(of_theirs)?;
        }
        seen
    }

    /// Removes what was deleted from the file itself, if that is still to be done. Another program that is reading may
    /// prevent it for now: it is done at a later opening then.
    pub(crate) fn scrub(&mut self) -> Result<()> {
        if !Header::read(&self.db)?.scrub || is_on(Mutant::LogoutKeepsPages) {
            return Ok(());
        }
        self.set_temporary_files(true)?;
        self.db.execute_batch("VACUUM").map_err(translate)?;
        let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
        let truncate = || self.db.query_row(truncate, [], |row| row.get::<_, bool>(0));
        let busy = match &self.checkpointer {
            Some(checkpointer) => checkpointer.held(truncate),
            None => truncate(),
        };
        if busy.map_err(of_theirs)? {
            return Err(ReplicaError::Busy);
        }
        self.transaction(|session| {
            session.header.scrub = false;
            Ok(())
        })
    }
}

/// Reads the catalogue again if the schema or the list of tables has changed. Answers whether it had.
pub(crate) fn refresh(db: &Connection, catalog: &mut Catalog, header: &Header) -> Result<bool> {
    let mut statement = db.prepare_cached("PRAGMA schema_version").map_err(translate)?;
    let schema: i64 = statement.query_row([], |row| row.get(0)).map_err(translate)?;
    let version = (schema, header.layout);
    catalog.seal = header.seal;
    if catalog.version == version {
        return Ok(false);
    }
    *catalog = Catalog::read(db, header.seal, version)?;
    Ok(true)
}

/// Whether it is a few edits of this device, as somebody makes them who waits for them.
fn is_small(batch: &Batch) -> bool {
    const FEW: usize = 16;
    is_local(batch) && batch.ops.len() <= FEW
}

fn is_done(outcome: &Outcome) -> bool {
    *outcome != Outcome::Stale
}

/// The batches that wait and can be committed together with the first, and the next job if it is another kind.
fn gather(seat: &Seat<Writer>, jobs: &Receiver<Job>, first: Waiting) -> (Vec<Waiting>, Option<Job>) {
    let local = is_local(&first.0);
    let mut group = vec![first];
    while group.len() < Writer::GROUP {
        match jobs.try_recv() {
            Ok(Job::Commit(batch, reply)) if is_local(&batch) == local => {
                seat.begun();
                group.push((batch, reply));
            }
            Ok(other) => return (group, Some(other)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
        }
    }
    (group, None)
}
