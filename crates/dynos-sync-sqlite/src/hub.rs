//! [`Hub`]: tells those who listen of commits.

use std::{
    collections::BTreeSet,
    fmt,
    pin::Pin,
    sync::Weak,
    task::{Context, Poll},
};

use futures_util::{Stream, task::AtomicWaker};

use crate::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// What a commit may have changed, by the names of tables.
pub(crate) enum Touched<'a> {
    /// Rows of these.
    Tables(&'a BTreeSet<String>),
    /// Nobody knows.
    Anything,
}

/// Whose commits are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Anybodys,
    /// Those of other programs, and of other connections.
    Others,
}

/// Where commits are told, until it is closed.
#[derive(Debug, Default)]
pub(crate) struct Hub(Mutex<Ears>);

#[derive(Debug, Default)]
struct Ears {
    listening: Vec<Weak<Ear>>,
    closed: bool,
}

/// One who listens. Every name of a table is in lower case.
#[derive(Debug)]
struct Ear {
    whose: Whose,
    /// `None`: any.
    tables: Mutex<Option<BTreeSet<String>>>,
    heard: AtomicBool,
    ended: AtomicBool,
    waker: AtomicWaker,
}

/// An item after commits of interest. What is told while nobody takes the next item is one item.
pub(crate) struct Listener(Arc<Ear>);

impl Hub {
    /// Listens from now on. What was committed before counts as heard.
    pub(crate) fn listen(&self, whose: Whose) -> Listener {
        let mut ears = self.ears();
        let ear = Arc::new(Ear {
            whose,
            tables: Mutex::new(None),
            heard: AtomicBool::new(true),
            ended: AtomicBool::new(ears.closed),
            waker: AtomicWaker::new(),
        });
        ears.listening.push(Arc::downgrade(&ear));
        Listener(ear)
    }

    /// Whether anybody listens to commits of this replica's own.
    pub(crate) fn is_heard(&self) -> bool {
        let mut ears = self.ears();
        ears.listening.retain(|ear| ear.strong_count() > 0);
        ears.each().any(|ear| ear.whose == Whose::Anybodys)
    }

    /// This replica has committed.
    pub(crate) fn tell(&self, touched: &Touched<'_>) {
        let concerned = |ear: &Ear| ear.whose == Whose::Anybodys && ear.is_concerned(touched);
        self.ears().each().filter(|ear| concerned(ear)).for_each(|ear| ear.hear());
    }

    /// Somebody else has committed.
    pub(crate) fn tell_of_others(&self) {
        self.ears().each().for_each(|ear| ear.hear());
    }

    /// Ends what listens to commits of others: there is no way to know of them any more.
    pub(crate) fn lose_others(&self) {
        self.ears().each().filter(|ear| ear.whose == Whose::Others).for_each(|ear| ear.end());
    }

    /// Nothing is told any more.
    pub(crate) fn close(&self) {
        let mut ears = self.ears();
        ears.closed = true;
        ears.each().for_each(|ear| ear.end());
    }

    fn ears(&self) -> crate::sync::MutexGuard<'_, Ears> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ears {
    fn each(&self) -> impl Iterator<Item = Arc<Ear>> {
        self.listening.iter().filter_map(Weak::upgrade)
    }
}

impl Ear {
    fn is_concerned(&self, touched: &Touched<'_>) -> bool {
        match (touched, &*self.tables.lock().unwrap_or_else(PoisonError::into_inner)) {
            (Touched::Anything, _) | (_, None) => true,
            (Touched::Tables(touched), Some(tables)) => !tables.is_disjoint(touched),
        }
    }

    fn hear(&self) {
        self.heard.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Listener {
    /// Commits that touch none of these tables are of no interest from now on.
    pub(crate) fn only(&self, tables: BTreeSet<String>) {
        *self.0.tables.lock().unwrap_or_else(PoisonError::into_inner) = Some(tables);
    }
}

impl Stream for Listener {
    type Item = ();

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<()>> {
        self.0.waker.register(context.waker());
        if self.0.ended.load(Ordering::Acquire) {
            Poll::Ready(None)
        } else if self.0.heard.swap(false, Ordering::AcqRel) {
            Poll::Ready(Some(()))
        } else {
            Poll::Pending
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
