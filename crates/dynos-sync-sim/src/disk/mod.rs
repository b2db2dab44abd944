//! Disks in memory, for every SQLite database of this process: they can be killed with whoever uses them, lose power, fill
//! up and fail, at any call.
//!
//! What is written stays in the system's cache until it is synced. A process that is killed loses nothing of it; when the
//! power fails, each write that was not synced is there afterwards, or is not, or is there up to a sector's end.
//! (SQLite's own crash tests make the same assumptions, see "How SQLite Is Tested", 3.3.)

mod fault;
mod file;
mod locks;
#[cfg(test)]
mod tests;
mod vfs;

use std::{
    cell::Cell,
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError},
};

use dynos_sync_core::Millis;
use rusqlite::ffi;

pub use self::fault::{Fault, Loss, ReadOnly};
use self::{
    fault::{Held, Plan},
    file::File,
    locks::{FileLock, Holder, Locks},
};

thread_local! {
    /// The time that SQLite's own functions read on this thread.
    static NOW: Cell<Millis> = const { Cell::new(0) };
}

/// Sets the time that SQLite's own functions read on this thread.
pub fn set_now(now: Millis) {
    NOW.set(now);
}

/// Where disks are mounted.
static MOUNTS: LazyLock<Mutex<HashMap<PathBuf, Disk>>> = LazyLock::new(Mutex::default);

/// A disk, mounted at a folder of its own.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    folder: PathBuf,
    files: HashMap<String, File>,
    /// Counts up when whoever uses the disk is killed: handles from before are dead.
    life: u64,
    handles: u64,
    plan: Plan,
    held: Held,
    read_only: Option<ReadOnly>,
    /// Calls so far that would have changed something.
    calls: u64,
    /// Syncs of a write-ahead log so far.
    log_syncs: u64,
}

/// What is on a disk.
#[derive(Clone, Debug)]
pub struct Image(HashMap<String, Vec<u8>>);

impl Image {
    /// The bytes of a file.
    pub fn read(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

impl Disk {
    /// Mounts an empty disk. All SQLite databases of this process that are not on such a disk can no longer be opened.
    pub fn mount(folder: impl Into<PathBuf>) -> Self {
        static REGISTER: Once = Once::new();
        REGISTER.call_once(vfs::register);
        let folder = folder.into();
        let disk = Self(Arc::new(Mutex::new(State { folder: folder.clone(), ..State::default() })));
        MOUNTS.lock().unwrap_or_else(PoisonError::into_inner).insert(folder, disk.clone());
        disk
    }

    /// Takes the disk away.
    pub fn unmount(&self) {
        let folder = self.lock().folder.clone();
        MOUNTS.lock().unwrap_or_else(PoisonError::into_inner).remove(&folder);
    }

    /// The disk on which a file is, and the file's name there.
    fn of(path: &str) -> Option<(Self, String)> {
        let path = Path::new(path);
        let mounts = MOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        let disk = mounts.get(path.parent()?)?.clone();
        Some((disk, path.file_name()?.to_str()?.to_owned()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path of a file on it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.lock().folder.join(name)
    }

    /// Every process that uses the disk is gone from now on: what it still calls has no effect. What it has written stays.
    pub fn kill(&self) {
        self.lock().kill();
    }

    /// The process is gone, and the fault that was armed may still be asked about.
    pub fn kill_quietly(&self) {
        let mut state = self.lock();
        state.life += 1;
        for file in state.files.values_mut() {
            file.locks = Locks::default();
        }
    }

    /// As [`kill`](Self::kill), and what was not synced is lost, or a part of it.
    pub fn lose_power(&self, loss: &mut Loss) {
        let mut state = self.lock();
        state.kill();
        let mut names: Vec<String> = state.files.keys().cloned().collect();
        names.sort();
        for name in names {
            if let Some(file) = state.files.get_mut(&name) {
                file.lose(loss);
            }
        }
    }

    /// What is to happen at the `after`th changing call from now, 0 being the next one.
    pub fn arm(&self, after: u64, fault: Fault) {
        let mut state = self.lock();
        let at = state.calls + after;
        state.plan.arm(at, fault);
    }

    /// Takes back what was armed. Answers whether it had happened.
    pub fn disarm(&self) -> bool {
        self.lock().plan.disarm()
    }

    /// From the `after`th lock from now on, so many that are asked for are held by others, 0 being the next one.
    pub fn hold_locks(&self, after: u64, calls: u64) {
        self.lock().held.arm(after, calls);
    }

    /// Others hold no locks any more. Answers whether anybody had asked for one that they held.
    pub fn release_locks(&self) -> bool {
        self.lock().held.disarm()
    }

    /// Files that are opened from now on cannot be written, or can again.
    pub fn set_read_only(&self, what: Option<ReadOnly>) {
        self.lock().read_only = what;
    }

    /// Whether the armed fault has happened.
    pub fn has_failed(&self) -> bool {
        self.lock().plan.has_happened()
    }

    /// How many calls would have changed something so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// How often a write-ahead log was synced so far: what was committed before the last time survives a loss of power.
    pub fn log_syncs(&self) -> u64 {
        self.lock().log_syncs
    }

    /// A copy of everything as a process sees it.
    pub fn image(&self) -> Image {
        Image(self.lock().files.iter().map(|(name, file)| (name.clone(), file.bytes().to_vec())).collect())
    }

    /// Puts a copy in place of what is there. Whoever uses the disk is killed.
    pub fn put_back(&self, image: &Image) {
        let mut state = self.lock();
        state.kill();
        state.files = image.0.iter().map(|(name, bytes)| (name.clone(), File::of(bytes.clone()))).collect();
    }

    /// The bytes of a file.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.lock().files.get(name).map(|file| file.bytes().to_vec())
    }

    /// Puts bytes in place of a file's. Whoever uses the disk is killed.
    pub fn write(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.lock();
        state.kill();
        state.files.insert(name.to_owned(), File::of(bytes));
    }

    /// Removes a file. Whoever uses the disk is killed.
    pub fn remove(&self, name: &str) {
        let mut state = self.lock();
        state.kill();
        state.files.remove(name);
    }

    /// The names of the files.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.lock().files.keys().cloned().collect();
        names.sort();
        names
    }
}

/// An open file.
#[derive(Debug)]
struct Handle {
    /// `None` for a temporary file, which nobody else sees.
    place: Option<Place>,
    temporary: Vec<u8>,
    read_only: bool,
}

#[derive(Debug)]
struct Place {
    disk: Disk,
    name: String,
    life: u64,
    id: Holder,
    /// The regions that SQLite was given: they stay until the handle is closed, even where the file is gone.
    shared: Option<Arc<locks::Shared>>,
}

type Code = std::ffi::c_int;

impl State {
    fn kill(&mut self) {
        self.life += 1;
        self.plan.disarm();
        for file in self.files.values_mut() {
            file.locks = Locks::default();
        }
    }

    /// Counts a call that is about to change something, and answers what happens to it.
    fn change(&mut self, kind: fault::Call) -> Result<(), Code> {
        let at = self.calls;
        self.calls += 1;
        match self.plan.meets(at, kind) {
            None => Ok(()),
            Some(Fault::Kill) => {
                self.life += 1;
                for file in self.files.values_mut() {
                    file.locks = Locks::default();
                }
                Err(ffi::SQLITE_IOERR)
            }
            Some(Fault::Full { .. }) => Err(ffi::SQLITE_FULL),
            Some(Fault::Broken { .. }) => Err(kind.error()),
        }
    }
}

impl Place {
    fn with<T>(&mut self, work: impl FnOnce(&mut State, &mut Self) -> Result<T, Code>) -> Result<T, Code> {
        let disk = self.disk.clone();
        let mut state = disk.lock();
        if state.life != self.life {
            return Err(ffi::SQLITE_IOERR);
        }
        work(&mut state, self)
    }

    fn file<'a>(&self, state: &'a mut State) -> Result<&'a mut File, Code> {
        state.files.get_mut(&self.name).ok_or(ffi::SQLITE_IOERR)
    }
}

impl Handle {
    fn open(path: Option<&str>, create: bool) -> Result<Self, Code> {
        let temporary = Vec::new();
        let Some(path) = path else { return Ok(Self { place: None, temporary, read_only: false }) };
        let (disk, name) = Disk::of(path).ok_or(ffi::SQLITE_CANTOPEN)?;
        let (place, read_only) = {
            let mut state = disk.lock();
            let read_only = state.read_only.is_some_and(|what| what.guards(&name));
            if !state.files.contains_key(&name) {
                if !create || state.read_only.is_some_and(ReadOnly::guards_folder) {
                    return Err(ffi::SQLITE_CANTOPEN);
                }
                state.files.insert(name.clone(), File::default());
            }
            state.handles += 1;
            let (life, id) = (state.life, state.handles);
            (Place { disk: disk.clone(), name, life, id, shared: None }, read_only)
        };
        Ok(Self { place: Some(place), temporary, read_only })
    }

    fn close(&mut self) {
        if let Some(place) = &mut self.place {
            // A dead handle holds nothing any more.
            let _ = place.with(|state, place| {
                let id = place.id;
                place.file(state).map(|file| file.locks.leave(id))
            });
        }
    }

    /// Reads, and answers how much there was to read.
    fn read(&mut self, offset: usize, into: &mut [u8]) -> Result<usize, Code> {
        match &mut self.place {
            None => Ok(file::read(&self.temporary, offset, into)),
            Some(place) => {
                place.with(|state, place| Ok(file::read(place.file(state)?.bytes(), offset, into)))
            }
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Code> {
        match &mut self.place {
            None => file::write(&mut self.temporary, offset, bytes),
            Some(place) => place.with(|state, place| {
                state.change(fault::Call::Write)?;
                place.file(state)?.write(offset, bytes);
                Ok(())
            })?,
        }
        Ok(())
    }

    fn truncate(&mut self, size: usize) -> Result<(), Code> {
        match &mut self.place {
            None => self.temporary.truncate(size),
            Some(place) => place.with(|state, place| {
                state.change(fault::Call::Truncate)?;
                place.file(state)?.truncate(size);
                Ok(())
            })?,
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Code> {
        let Some(place) = &mut self.place else { return Ok(()) };
        place.with(|state, place| {
            state.change(fault::Call::Sync)?;
            if place.name.ends_with("-wal") {
                state.log_syncs += 1;
            }
            place.file(state)?.sync();
            Ok(())
        })
    }

    fn size(&mut self) -> Result<usize, Code> {
        match &mut self.place {
            None => Ok(self.temporary.len()),
            Some(place) => place.with(|state, place| Ok(place.file(state)?.bytes().len())),
        }
    }

    fn lock(&mut self, level: FileLock) -> Result<(), Code> {
        let Some(place) = &mut self.place else { return Ok(()) };
        place.with(|state, place| {
            let id = place.id;
            state.held.ask()?;
            place.file(state)?.locks.raise(id, level)
        })
    }

    fn unlock(&mut self, level: FileLock) -> Result<(), Code> {
        let Some(place) = &mut self.place else { return Ok(()) };
        place.with(|state, place| {
            let id = place.id;
            place.file(state)?.locks.lower(id, level);
            Ok(())
        })
    }

    fn is_reserved(&mut self) -> Result<bool, Code> {
        let Some(place) = &mut self.place else { return Ok(false) };
        place.with(|state, place| Ok(place.file(state)?.locks.is_reserved()))
    }

    /// The address of a region of the shared memory.
    fn region(&mut self, index: usize, size: usize, extend: bool) -> Result<*mut u8, Code> {
        let place = self.place.as_mut().ok_or(ffi::SQLITE_IOERR)?;
        place.with(|state, place| {
            let id = place.id;
            let locks = &mut place.file(state)?.locks;
            locks.map(id);
            let shared = locks.shared();
            let region = shared.region(index, size, extend);
            place.shared = Some(shared);
            Ok(region)
        })
    }

    fn lock_region(&mut self, first: usize, count: usize, how: locks::Region) -> Result<(), Code> {
        let place = self.place.as_mut().ok_or(ffi::SQLITE_IOERR)?;
        place.with(|state, place| {
            let id = place.id;
            if how != locks::Region::Release {
                state.held.ask()?;
            }
            place.file(state)?.locks.region(id, first, count, how)
        })
    }

    fn unmap(&mut self) {
        if let Some(place) = &mut self.place {
            // A dead handle holds nothing any more.
            let _ = place.with(|state, place| {
                let id = place.id;
                place.file(state).map(|file| file.locks.unmap(id))
            });
        }
    }
}

fn delete(path: &str) -> Result<(), Code> {
    let (disk, name) = Disk::of(path).ok_or(ffi::SQLITE_IOERR)?;
    let mut state = disk.lock();
    if state.read_only.is_some_and(ReadOnly::guards_folder) {
        return Err(ffi::SQLITE_IOERR_DELETE);
    }
    state.change(fault::Call::Delete)?;
    match state.files.remove(&name) {
        Some(_) => Ok(()),
        None => Err(ffi::SQLITE_IOERR_DELETE_NOENT),
    }
}

fn exists(path: &str) -> bool {
    Disk::of(path).is_some_and(|(disk, name)| disk.lock().files.contains_key(&name))
}
