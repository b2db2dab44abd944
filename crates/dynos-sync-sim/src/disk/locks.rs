//! Locks of a file, and the memory that its users share: the write-ahead log's index.

use std::{
    cell::UnsafeCell,
    collections::{BTreeMap, BTreeSet},
    ffi::c_int,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::ffi;

/// Who holds a lock.
pub(super) type Holder = u64;

/// How much of a file is locked (SQLite, "File Locking And Concurrency", 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FileLock {
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

/// What is to be done with a lock of the shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Region {
    Share,
    Own,
    Release,
}

#[derive(Debug, Default)]
pub(super) struct Locks {
    file: BTreeMap<Holder, FileLock>,
    regions: [RegionLock; 8],
    shared: Option<Arc<Shared>>,
    mapped: BTreeSet<Holder>,
}

#[derive(Debug, Default)]
struct RegionLock {
    owner: Option<Holder>,
    sharers: BTreeSet<Holder>,
}

impl Locks {
    pub(super) fn raise(&mut self, who: Holder, level: FileLock) -> Result<(), c_int> {
        let others = self.file.iter().filter(|(holder, _)| **holder != who).map(|(_, level)| *level);
        let highest = others.clone().max().unwrap_or(FileLock::None);
        let free = match level {
            FileLock::None => true,
            FileLock::Shared => highest < FileLock::Pending,
            FileLock::Reserved | FileLock::Pending => highest < FileLock::Reserved,
            FileLock::Exclusive => highest == FileLock::None,
        };
        if free {
            let mine = self.file.entry(who).or_insert(FileLock::None);
            *mine = level.max(*mine);
            return Ok(());
        }
        if level == FileLock::Exclusive && highest == FileLock::Shared {
            // Who waits for readers to leave lets no new ones in.
            self.file.insert(who, FileLock::Pending);
        }
        Err(ffi::SQLITE_BUSY)
    }

    pub(super) fn lower(&mut self, who: Holder, level: FileLock) {
        if level == FileLock::None {
            self.file.remove(&who);
        } else if let Some(mine) = self.file.get_mut(&who) {
            *mine = level.min(*mine);
        }
    }

    pub(super) fn is_reserved(&self) -> bool {
        self.file.values().any(|level| *level >= FileLock::Reserved)
    }

    pub(super) fn leave(&mut self, who: Holder) {
        self.file.remove(&who);
        self.unmap(who);
    }

    pub(super) fn shared(&mut self) -> Arc<Shared> {
        Arc::clone(self.shared.get_or_insert_default())
    }

    pub(super) fn map(&mut self, who: Holder) {
        self.mapped.insert(who);
    }

    /// The memory is gone with the last who had it.
    pub(super) fn unmap(&mut self, who: Holder) {
        self.mapped.remove(&who);
        for region in &mut self.regions {
            region.release(who);
        }
        if self.mapped.is_empty() {
            self.shared = None;
        }
    }

    pub(super) fn region(
        &mut self,
        who: Holder,
        first: usize,
        count: usize,
        how: Region,
    ) -> Result<(), c_int> {
        let regions = self.regions.get_mut(first..first + count).ok_or(ffi::SQLITE_IOERR)?;
        let is_free = |region: &RegionLock| {
            let owned = region.owner.is_some_and(|owner| owner != who);
            let shared = region.sharers.iter().any(|sharer| *sharer != who);
            !owned && (how == Region::Share || !shared)
        };
        if how != Region::Release && !regions.iter().all(is_free) {
            return Err(ffi::SQLITE_BUSY);
        }
        for region in regions {
            match how {
                Region::Share => drop(region.sharers.insert(who)),
                Region::Own => region.owner = Some(who),
                Region::Release => region.release(who),
            }
        }
        Ok(())
    }
}

impl RegionLock {
    fn release(&mut self, who: Holder) {
        self.sharers.remove(&who);
        if self.owner == Some(who) {
            self.owner = None;
        }
    }
}

/// Memory that SQLite reads and writes by itself. Nothing here ever looks into it.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Vec<Bytes>>);

#[derive(Debug)]
struct Bytes(Box<[UnsafeCell<u8>]>);

// SAFETY: the bytes are only ever touched by SQLite, which orders its accesses by its own locks and barriers. This side
// hands out the address, and frees the memory when the last handle that was given it has been closed.
#[allow(unsafe_code, reason = "see above")]
unsafe impl Send for Bytes {}

impl Shared {
    /// The address of a region; null where it does not exist and is not to be made.
    pub(super) fn region(&self, index: usize, size: usize, extend: bool) -> *mut u8 {
        let mut regions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while extend && regions.len() <= index {
            regions.push(Bytes((0..size).map(|_| UnsafeCell::new(0)).collect()));
        }
        regions.get(index).map_or(std::ptr::null_mut(), |bytes| UnsafeCell::raw_get(bytes.0.as_ptr()))
    }
}
