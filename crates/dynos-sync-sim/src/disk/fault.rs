//! What can happen to a disk.

use std::ffi::c_int;

use rusqlite::ffi;

/// What happens to a call that would change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed before it.
    Kill,
    /// The disk is full, for this many calls. Only writes need room.
    Full {
        /// How many.
        calls: u64,
    },
    /// The disk answers an error, for this many calls.
    Broken {
        /// How many.
        calls: u64,
    },
}

/// What of a disk cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnly {
    /// The database, not its log.
    Database,
    /// The folder: no file can be made or removed.
    Folder,
    /// All of it.
    Disk,
}

impl ReadOnly {
    /// Whether a file that is there is only read.
    pub(super) fn guards(self, name: &str) -> bool {
        match self {
            Self::Database => !name.contains('-'),
            Self::Folder => false,
            Self::Disk => true,
        }
    }

    /// Whether files are neither made nor removed.
    pub(super) fn guards_folder(self) -> bool {
        self != Self::Database
    }
}

/// Locks that others hold for a while.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Locks asked for so far.
    asked: u64,
    /// From which one on none is given, and for how many.
    armed: Option<(u64, u64)>,
    happened: bool,
}

impl Held {
    pub(super) fn arm(&mut self, after: u64, calls: u64) {
        (self.armed, self.happened) = (Some((self.asked + after, calls)), false);
    }

    pub(super) fn disarm(&mut self) -> bool {
        self.armed = None;
        std::mem::take(&mut self.happened)
    }

    /// Somebody asks for a lock.
    pub(super) fn ask(&mut self) -> Result<(), c_int> {
        let at = self.asked;
        self.asked += 1;
        match self.armed {
            Some((first, calls)) if (first..first.saturating_add(calls)).contains(&at) => {
                self.happened = true;
                Err(ffi::SQLITE_BUSY)
            }
            _ => Ok(()),
        }
    }
}

/// A call that would change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Write,
    Truncate,
    Sync,
    Delete,
}

impl Call {
    /// SQLite's word for its failure.
    pub(super) fn error(self) -> c_int {
        match self {
            Self::Write => ffi::SQLITE_IOERR_WRITE,
            Self::Truncate => ffi::SQLITE_IOERR_TRUNCATE,
            Self::Sync => ffi::SQLITE_IOERR_FSYNC,
            Self::Delete => ffi::SQLITE_IOERR_DELETE,
        }
    }
}

/// What is to happen, and when.
#[derive(Debug, Default)]
pub(super) struct Plan {
    armed: Option<(u64, Fault)>,
    happened: bool,
}

impl Plan {
    pub(super) fn arm(&mut self, at: u64, fault: Fault) {
        (self.armed, self.happened) = (Some((at, fault)), false);
    }

    pub(super) fn disarm(&mut self) -> bool {
        self.armed = None;
        std::mem::take(&mut self.happened)
    }

    pub(super) fn has_happened(&self) -> bool {
        self.happened
    }

    pub(super) fn meets(&mut self, at: u64, call: Call) -> Option<Fault> {
        let (first, fault) = self.armed?;
        let met = match fault {
            Fault::Kill => at == first,
            Fault::Full { calls } => (first..first + calls).contains(&at) && call == Call::Write,
            Fault::Broken { calls } => (first..first + calls).contains(&at),
        };
        self.happened |= met;
        met.then_some(fault)
    }
}

/// What becomes of writes that were not synced when the power fails.
#[derive(Debug)]
pub struct Loss {
    random: fastrand::Rng,
    /// In percent: how many of the writes had reached the disk all the same.
    kept: u8,
    /// Whether they reached it in order: then what is lost is what came last.
    in_order: bool,
}

/// What became of a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Kept,
    /// Only this much of it: whole sectors.
    Torn(usize),
    Lost,
}

impl Loss {
    const SECTOR: usize = 512;

    /// Draws how bad it is from a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let kept = [0, 50, 90, 100][random.usize(..4)];
        let in_order = random.bool();
        Self { random, kept, in_order }
    }

    /// What becomes of the writes of a file, by their lengths.
    pub(super) fn fates(&mut self, lengths: &[usize]) -> Vec<Fate> {
        if self.in_order {
            let kept = lengths.len() * usize::from(self.kept) / 100;
            let fate = |(place, length): (usize, &usize)| match place.cmp(&kept) {
                std::cmp::Ordering::Less => Fate::Kept,
                std::cmp::Ordering::Equal => Fate::Torn(length / Self::SECTOR / 2 * Self::SECTOR),
                std::cmp::Ordering::Greater => Fate::Lost,
            };
            return lengths.iter().enumerate().map(fate).collect();
        }
        lengths.iter().map(|length| self.fate(*length)).collect()
    }

    fn fate(&mut self, length: usize) -> Fate {
        if self.random.u8(..100) < self.kept {
            return Fate::Kept;
        }
        if self.random.u8(..4) == 0 {
            return Fate::Torn(self.random.usize(..=length) / Self::SECTOR * Self::SECTOR);
        }
        Fate::Lost
    }
}
