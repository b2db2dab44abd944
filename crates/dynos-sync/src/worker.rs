//! The engine's own thread: it runs the jobs that use the network, one at a time.
//!
//! That there is one loop is the drain lock: two drains cannot happen.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, thread, time::Duration};

use dynos_sync_core::{
    Millis,
    replica::Logout,
    sabotage::{Mutant, is_on},
    wire::Hint,
};
use futures_channel::oneshot;
use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    driver::Driver,
    error::SyncError,
    event::SyncEvent,
    report::{DrainReport, PullReport, SyncReport},
    status::ConnectionState,
    trace::Report,
};

type Reply<T> = oneshot::Sender<Result<T, SyncError>>;

/// What the worker is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Drain(Reply<DrainReport>),
    DrainOnce(Reply<DrainReport>),
    PullAll(Reply<PullReport>),
    SyncAll(Reply<SyncReport>),
    Logout { discard: bool, reply: Reply<u64> },
    Close(oneshot::Sender<()>),
}

/// What the worker and the engine's handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) driver: Driver,
    /// Something was queued.
    pub(crate) queued: Notify,
    /// How many logouts and closes wait: while any does, no job goes on.
    pub(crate) interrupts: watch::Sender<usize>,
    /// How often something was changed through the engine's handles.
    pub(crate) changes: watch::Sender<u64>,
    /// `None` until the first sync has ended, then whether it succeeded.
    pub(crate) first_sync: watch::Sender<Option<bool>>,
    /// Gone with the engine: when its work has ended, and its last handle is gone.
    lives: watch::Sender<()>,
}

impl Shared {
    pub(crate) fn new(driver: Driver) -> Self {
        Self {
            driver,
            queued: Notify::new(),
            interrupts: watch::Sender::new(0),
            changes: watch::Sender::new(0),
            first_sync: watch::Sender::new(None),
            lives: watch::Sender::default(),
        }
    }

    /// Waits for the engine's end, without keeping it alive.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut lives = self.lives.subscribe();
        async move { while lives.changed().await.is_ok() {} }
    }
}

/// The engine's work, until it is closed or nobody can ask any more.
pub(crate) fn work(
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
) -> impl Future<Output = ()> + Send + use<> {
    let mut worker = Worker::new(shared, commands);
    async move {
        // What panics outside of a job is the application's: a stream of hints, or a hook.
        while AssertUnwindSafe(worker.run()).catch_unwind().await.is_err() {
            worker.recover();
        }
    }
}

/// Does the work on a thread of its own.
pub(crate) fn start(work: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("dynos-sync".to_owned()).spawn(move || runtime.block_on(work)).map(drop)
}

/// Where there is nothing to wait for.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

struct Worker {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    hints: Option<BoxStream<'static, Hint>>,
    /// Whether one has come: that connection stands, until the hints end.
    is_hinted: bool,
    /// Commits by other programs. `None` where they have to be looked for.
    foreign_commits: Option<BoxStream<'static, ()>>,
    /// Failures in a row.
    failures: u32,
    /// No network before this time.
    resume_at: Millis,
    next_pull: Millis,
    next_poll: Millis,
    next_hints: Millis,
    pull_due: bool,
    push_due: bool,
    /// The time as it was last read.
    last_now: Millis,
}

enum Event {
    Command(Option<Command>),
    Queued,
    Hint(Option<Hint>),
    ForeignCommit(Option<()>),
    Time,
}

impl Worker {
    fn new(shared: Arc<Shared>, commands: mpsc::UnboundedReceiver<Command>) -> Self {
        Self {
            foreign_commits: shared.driver.replica.foreign_commits(),
            shared,
            commands,
            hints: None,
            is_hinted: false,
            failures: 0,
            resume_at: 0,
            next_pull: 0,
            next_poll: 0,
            next_hints: 0,
            pull_due: true,
            push_due: true,
            last_now: 0,
        }
    }

    async fn run(&mut self) {
        loop {
            if self.driver().config.auto_sync {
                self.sync_by_itself().await;
            }
            match self.next_event().await {
                Event::Command(Some(Command::Close(done))) => {
                    self.driver().replica.close().await;
                    self.driver().events.end();
                    // Whoever closed may be gone already.
                    let _ = done.send(());
                    return;
                }
                // Every handle is gone: nobody can ask or listen any more.
                Event::Command(None) => return,
                Event::Command(Some(command)) => self.obey(command).await,
                Event::Queued => self.push_due = true,
                Event::Hint(Some(_)) => (self.pull_due, self.is_hinted) = (true, true),
                Event::Hint(None) => self.lose_hints(),
                Event::ForeignCommit(heard) => {
                    if heard.is_none() {
                        self.foreign_commits = None;
                    }
                    self.next_poll = 0;
                }
                Event::Time => {}
            }
        }
    }

    /// Hints are asked for again, after a pause. Where they had come, nobody knows whether the server can be reached: then a pull
    /// finds out.
    fn lose_hints(&mut self) {
        self.hints = None;
        self.next_hints = self.now() + self.pause();
        if std::mem::take(&mut self.is_hinted) {
            self.next_pull = self.next_pull.min(self.next_hints);
            if self.connection() == ConnectionState::Online {
                self.driver().observed.connected(ConnectionState::Unknown);
            }
        }
    }

    fn connection(&self) -> ConnectionState {
        self.driver().observed.standing().connection
    }

    /// Whether somebody has to sign in before anything is tried again.
    fn is_signed_out(&self) -> bool {
        self.connection() == ConnectionState::SignedOut
    }

    /// After a panic it goes on as after any other failure.
    fn recover(&mut self) {
        self.hints = None;
        self.failures = self.failures.saturating_add(1);
        self.resume_at = self.now() + self.pause();
        self.next_hints = self.resume_at;
        self.driver()
            .tell(SyncEvent::SyncError { error: SyncError::Panicked.to_string(), context: "engine" });
    }

    fn driver(&self) -> &Driver {
        &self.shared.driver
    }

    /// The time. Where the clock was set back since it was last read, what waits for a time goes back with it: it would else
    /// wait for that much longer.
    fn now(&mut self) -> Millis {
        let now = self.driver().clock.now();
        let back = if is_on(Mutant::ClockSetBack) { 0 } else { self.last_now.saturating_sub(now).max(0) };
        for time in [&mut self.resume_at, &mut self.next_pull, &mut self.next_poll, &mut self.next_hints] {
            *time = time.saturating_sub(back);
        }
        self.last_now = now;
        now
    }

    async fn next_event(&mut self) -> Event {
        let shared = Arc::clone(&self.shared);
        let wait = self.time_to_wait();
        let auto = shared.driver.config.auto_sync;
        // Connecting to hear of hints is a call like any other.
        let listens = auto && self.may_call();
        let (hint, foreign_commit) = (next_of(&mut self.hints), next_of(&mut self.foreign_commits));
        tokio::select! {
            biased;
            command = self.commands.recv() => Event::Command(command),
            () = shared.queued.notified(), if auto => Event::Queued,
            hint = hint, if listens => Event::Hint(hint),
            heard = foreign_commit, if listens => Event::ForeignCommit(heard),
            () = shared.driver.clock.sleep(wait), if auto => Event::Time,
        }
    }

    /// Whether the server may be called without anybody asking for it.
    fn may_call(&mut self) -> bool {
        !self.is_signed_out() && self.now() >= self.resume_at
    }

    fn time_to_wait(&mut self) -> Duration {
        if self.is_signed_out() {
            // Nothing is done before somebody signs in, whatever is due.
            return LONG;
        }
        let now = self.now();
        let mut next = self.next_poll.min(self.next_pull);
        if self.push_due || self.pull_due {
            next = self.resume_at;
        }
        if self.hints.is_none() {
            next = next.min(self.next_hints);
        }
        let wait = next.max(self.resume_at) - now;
        Duration::from_millis(u64::try_from(wait).unwrap_or(0).max(1))
    }

    async fn obey(&mut self, command: Command) {
        let shared = Arc::clone(&self.shared);
        let driver = &shared.driver;
        match command {
            Command::Drain(reply) => answer(reply, self.unless_interrupted(driver.drain()).await),
            Command::DrainOnce(reply) => answer(reply, self.unless_interrupted(driver.drain_once()).await),
            Command::PullAll(reply) => answer(reply, self.unless_interrupted(driver.pull_all()).await),
            Command::SyncAll(reply) => {
                let done = self.unless_interrupted(driver.sync_all()).await;
                self.note_sync(done.is_ok());
                self.note(&done);
                answer(reply, done);
            }
            Command::Logout { discard, reply } => answer(reply, self.logout(discard).await),
            Command::Close(_) => unreachable!("BUG: the loop closes"),
        }
    }

    /// Runs a job that ends early when somebody logs out or closes. Whatever it was about to commit afterwards would
    /// find the session ended. A job that panics does not take the thread with it.
    async fn unless_interrupted<T: Report>(
        &mut self,
        job: impl Future<Output = Result<T, SyncError>>,
    ) -> Result<T, SyncError> {
        let mut interrupts = self.shared.interrupts.subscribe();
        self.driver().observed.remember(|standing| standing.syncing = true);
        let result = tokio::select! {
            biased;
            _ = interrupts.wait_for(|waiting| *waiting > 0) => Err(SyncError::SessionEnded),
            result = AssertUnwindSafe(job).catch_unwind() => result.unwrap_or(Err(SyncError::Panicked)),
        };
        self.driver().observed.remember(|standing| standing.syncing = false);
        self.note_connection(&result);
        result
    }

    /// Notes down what a job's end says of the connection.
    fn note_connection<T: Report>(&self, done: &Result<T, SyncError>) {
        use ConnectionState::{Offline, Online, SignedOut, Unknown};
        let driver = self.driver();
        let connection = match done {
            Ok(report) if !report.has_called() => return,
            Ok(_) if driver.has_met() => Online,
            // There was no table to ask the server for.
            Ok(_) => Unknown,
            Err(SyncError::AuthExpired { .. }) => SignedOut,
            // The file is somebody else's now.
            Err(SyncError::SessionEnded) if driver.session_is_over() => SignedOut,
            Err(SyncError::Remote(error)) if driver.config.is_transient(error) => Offline,
            Err(_) => return,
        };
        let before = driver.observed.connected(connection);
        match (done, before, connection) {
            (_, Offline | SignedOut, Online) => driver.tell(SyncEvent::Online),
            (Err(SyncError::AuthExpired { message }), ..) => {
                driver.tell(SyncEvent::AuthRequired { error: message.clone() });
            }
            (Err(error), Online | SignedOut | Unknown, Offline) => {
                driver.tell(SyncEvent::Offline { error: error.to_string() });
            }
            _ => {}
        }
    }

    async fn logout(&mut self, discard: bool) -> Result<u64, SyncError> {
        self.hints = None;
        let shared = Arc::clone(&self.shared);
        // Whoever asked for it may have given up by now.
        let _leaving = shared.driver.leave();
        match self.driver().replica.logout(discard).await? {
            Logout::Unsynced { changes } => Err(SyncError::Unsynced { changes }),
            Logout::Done { discarded } => {
                self.driver().begin_session().await?;
                // Until somebody signs in, nothing is asked of the server.
                self.driver().observed.connected(ConnectionState::SignedOut);
                Ok(discarded)
            }
        }
    }

    async fn sync_by_itself(&mut self) {
        if !self.may_call() {
            return;
        }
        let now = self.now();
        if now >= self.next_poll {
            self.look(now).await;
        }
        self.pull_due |= now >= self.next_pull;
        if self.hints.is_none() && now >= self.next_hints {
            self.hints = Some(self.driver().remote.hints());
        }
        let shared = Arc::clone(&self.shared);
        if self.pull_due {
            self.next_pull = now + millis(self.driver().config.pull_interval);
            let done = self.unless_interrupted(shared.driver.sync_all()).await;
            self.note_sync(done.is_ok());
            self.finish(&done, "sync");
        } else if self.push_due {
            let done = self.unless_interrupted(shared.driver.drain()).await;
            self.finish(&done, "drain");
        }
    }

    /// Looks whether anything waits that could be sent: other programs may have written, or a refused record's time has come.
    async fn look(&mut self, now: Millis) {
        let shared = Arc::clone(&self.shared);
        let soon = now + millis(shared.driver.config.poll_interval);
        let (ready, next_retry) = shared.driver.ready().await.unwrap_or((false, Some(soon)));
        self.push_due |= ready;
        self.next_poll = match (&self.foreign_commits, next_retry) {
            (None, _) => soon,
            (Some(_), Some(retry)) => soon.max(retry),
            (Some(_), None) => now + millis(LONG),
        };
    }

    fn finish<T>(&mut self, done: &Result<T, SyncError>, context: &'static str) {
        self.note(done);
        match done {
            Ok(_) => (self.pull_due, self.push_due) = (false, false),
            Err(error) => {
                let error = error.to_string();
                self.driver().tell(SyncEvent::SyncError { error, context });
            }
        }
    }

    /// Draws the consequences of a sync that succeeded or failed.
    fn note<T>(&mut self, done: &Result<T, SyncError>) {
        // Something may have to be tried again at some time.
        self.next_poll = self.next_poll.min(self.now() + millis(self.driver().config.poll_interval));
        match done {
            Ok(_) => {
                (self.failures, self.resume_at) = (0, 0);
                self.driver().observed.pauses_until(None);
            }
            Err(SyncError::SessionEnded) if self.driver().session_is_over() => self.hints = None,
            Err(SyncError::SessionEnded) => {}
            Err(error) => self.note_failure(error),
        }
    }

    fn note_failure(&mut self, error: &SyncError) {
        self.failures = self.failures.saturating_add(1);
        let asked = match error {
            SyncError::Remote(remote) => remote.retry_after().map_or(0, millis),
            _ => 0,
        };
        self.resume_at = self.now() + self.pause().max(asked);
        if self.driver().config.auto_sync {
            self.driver().observed.pauses_until(Some(self.resume_at));
        }
    }

    fn pause(&self) -> Millis {
        let driver = self.driver();
        millis(driver.config.backoff().pause(self.failures.max(1), driver.random()))
    }

    /// A sync has ended.
    fn note_sync(&self, succeeded: bool) {
        self.shared.first_sync.send_if_modified(|first| {
            let new = first.is_none();
            first.get_or_insert(succeeded);
            new
        });
    }
}

/// The next item of a stream, where there is one to wait for.
pub(crate) async fn next_of<T>(stream: &mut Option<BoxStream<'static, T>>) -> Option<T> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

fn millis(pause: Duration) -> Millis {
    Millis::try_from(pause.as_millis()).unwrap_or(Millis::MAX / 2)
}

fn answer<T>(reply: Reply<T>, result: Result<T, SyncError>) {
    // Whoever asked may have given up waiting.
    let _ = reply.send(result);
}
