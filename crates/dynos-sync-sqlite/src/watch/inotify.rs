//! By inotify, which says when a file is written to.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use inotify::{Inotify, WatchDescriptor, WatchMask, Watches};

use crate::{crew::Crew, desk::Seat, error::Result, file, hub::Hub, writer::Writer};

/// After a write the file is left alone for so long: whoever writes all the time is heard twenty times a second.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn start(
    crew: &Crew,
    database: &Path,
    seat: &Arc<Seat<Writer>>,
    hub: &Arc<Hub>,
) -> Result<Option<Watch>> {
    // The system may have no watch left to give.
    let Some((watch, watcher)) = log_of(database).and_then(|log| Watch::new(&log).ok()) else {
        return Ok(None);
    };
    // What was committed before is no news.
    if let Some(writer) = seat.clerk().as_mut() {
        writer.others_have_committed()?;
    }
    let (seat, hub) = (Arc::clone(seat), Arc::clone(hub));
    crew.start("dynos-sqlite-watch", move || {
        // The log is written by this replica too.
        let by_others = || seat.clerk().as_mut().is_some_and(|writer| writer.others_have_committed().unwrap_or(true));
        if let Err(error) = watcher.run(|| if by_others() { hub.tell_of_others() }) {
            tracing::warn!(%error, "the log can no longer be watched: what other programs write is looked for");
            hub.lose_others();
        }
    })?;
    Ok(Some(watch))
}

/// The log's file. SQLite puts it beside the file that a link leads to.
fn log_of(database: &Path) -> Option<PathBuf> {
    if file::is_none(database) {
        return None;
    }
    let mut log = std::fs::canonicalize(database).ok()?.into_os_string();
    log.push("-wal");
    Some(log.into())
}

/// A file that is watched, until it is told to end.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    turn: Mutex<Turn>,
    ended: Condvar,
}

#[derive(Debug)]
struct Turn {
    watches: Watches,
    /// What the thread waits for, if it waits.
    watch: Option<WatchDescriptor>,
    ended: bool,
}

/// The half that is told by the system.
struct Watcher {
    watch: Watch,
    inotify: Inotify,
}

impl Watch {
    fn new(file: &Path) -> io::Result<(Self, Watcher)> {
        let inotify = Inotify::init()?;
        let turn = Turn { watches: inotify.watches(), watch: None, ended: false };
        let shared = Shared { file: file.to_owned(), turn: Mutex::new(turn), ended: Condvar::new() };
        let watch = Self(Arc::new(shared));
        watch.begin()?;
        Ok((watch.clone(), Watcher { watch, inotify }))
    }

    /// Lets [`Watcher::run`] return.
    pub(crate) fn end(&self) {
        let mut turn = self.turn();
        turn.ended = true;
        if let Some(watch) = turn.watch.take() {
            // The system says so to whoever waits for it. An error says that it has just been told something else.
            let _ = turn.watches.remove(watch);
        }
        self.0.ended.notify_all();
    }

    /// Watches for one write. Answers false where it has ended.
    fn begin(&self) -> io::Result<bool> {
        let mut turn = self.turn();
        if !turn.ended {
            let mask = WatchMask::MODIFY | WatchMask::ONESHOT;
            turn.watch = Some(turn.watches.add(&self.0.file, mask)?);
        }
        Ok(!turn.ended)
    }

    fn pause(&self) {
        let turn = self.turn();
        let waited = self.0.ended.wait_timeout_while(turn, PAUSE, |turn| !turn.ended);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Calls `written` after writes, until the watch is ended.
    ///
    /// # Errors
    /// Where the file cannot be watched any longer.
    fn run(mut self, written: impl Fn()) -> io::Result<()> {
        let mut buffer = [0; 1024];
        loop {
            match self.inotify.read_events_blocking(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                events => drop(events?),
            }
            written();
            self.watch.pause();
            if !self.watch.begin()? {
                return Ok(());
            }
            // What was written in the pause nobody has seen.
            written();
        }
    }
}
