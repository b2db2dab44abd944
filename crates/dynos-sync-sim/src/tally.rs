//! How much was done, and how much went wrong while what was being done.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

/// What a device is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Doing {
    /// Opening its database, meeting the server.
    Opening,
    /// Writing for the application.
    Writing,
    /// Sending what is queued, and taking note of the answer.
    Pushing,
    /// Fetching what is new, and applying it.
    Following,
    /// Fetching everything: for the first time, or again.
    CatchingUp,
    /// Forgetting its user.
    Leaving,
}

impl Doing {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Opening, Self::Writing, Self::Pushing, Self::Following, Self::CatchingUp, Self::Leaving];
}

/// What a device is about now. Clones say the same.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<AtomicU8>);

impl Activity {
    /// Notes what it is about.
    pub fn set(&self, doing: Doing) {
        self.0.store(doing as u8, Ordering::Relaxed);
    }

    /// What it is about.
    pub fn get(&self) -> Doing {
        let now = self.0.load(Ordering::Relaxed);
        Doing::ALL.into_iter().find(|doing| *doing as u8 == now).unwrap_or(Doing::Opening)
    }
}

/// Counts. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Counts>>);

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// What was done, by its name.
    pub done: BTreeMap<&'static str, u64>,
    /// What went wrong, and during what.
    pub faults: BTreeMap<(&'static str, Doing), u64>,
}

impl Counts {
    /// Adds what somebody else has counted.
    pub fn add(&mut self, other: &Self) {
        for (name, n) in &other.done {
            *self.done.entry(name).or_default() += n;
        }
        for (fault, n) in &other.faults {
            *self.faults.entry(*fault).or_default() += n;
        }
    }

    /// Adds to what was done.
    pub fn add_done(&mut self, what: &'static str, n: u64) {
        *self.done.entry(what).or_default() += n;
    }

    /// How much of something was done.
    pub fn of(&self, name: &str) -> u64 {
        self.done.get(name).copied().unwrap_or(0)
    }

    /// How many faults there were.
    pub fn all_faults(&self) -> u64 {
        self.faults.values().sum()
    }
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was done.
    pub fn done(&self, what: &'static str) {
        *self.lock().done.entry(what).or_default() += 1;
    }

    /// Something went wrong.
    pub fn fault(&self, what: &'static str, during: Doing) {
        *self.lock().faults.entry((what, during)).or_default() += 1;
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }
}
