//! What has arrived of a snapshot, in files beside the database: `-snapshot` as it travels, behind its digest, so that fetching it can
//! go on after a restart; and `-snapshot.db`, unpacked, until its tables were copied.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use dynos_sync_core::{ReplicaError, snapshot::Snapshot};

use super::unpack::Unpacking;
use crate::{
    error::Result,
    file,
    sync::{Mutex, PoisonError},
};

/// The files.
#[derive(Debug)]
pub(crate) struct Staging {
    packed: PathBuf,
    unpacked: PathBuf,
    /// Held by this process alone while it is open.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    /// What was unpacked of it as it arrived. `None` where that is to be done from the file: it began to arrive in another process, or could
    /// not be unpacked further. (Closed first: `packed` is locked.)
    unpacking: Option<Unpacking>,
    packed: File,
}

impl Staging {
    /// `None` for a database that has no file of its own name.
    pub(crate) fn beside(database: &Path) -> Option<Self> {
        if file::is_none(database) {
            return None;
        }
        let named = |suffix: &str| {
            let mut name = OsString::from(database);
            name.push(suffix);
            PathBuf::from(name)
        };
        Some(Self { packed: named("-snapshot"), unpacked: named("-snapshot.db"), open: Mutex::new(None) })
    }

    /// How many bytes of a snapshot are here. Those of any other are dropped.
    ///
    /// # Errors
    /// [`ReplicaError::Busy`] while another process stages one.
    pub(super) fn begin(&self, snapshot: &Snapshot) -> Result<u64> {
        self.with_open(|open| {
            if let Some(kept) = kept(&mut open.packed, snapshot)?.filter(|kept| *kept <= snapshot.bytes) {
                return Ok(kept);
            }
            open.unpacking = None;
            open.packed.set_len(0)?;
            open.packed.rewind()?;
            open.packed.write_all(snapshot.digest.as_bytes())?;
            open.unpacking = Some(self.unpacking(snapshot)?);
            Ok(0)
        })
    }

    /// Keeps more of it.
    pub(super) fn append(&self, snapshot: &Snapshot, from: u64, bytes: &[u8]) -> Result<()> {
        self.with_open(|Open { packed, unpacking }| {
            if kept(packed, snapshot)? != Some(from) {
                return Err(io::Error::other("another snapshot was staged meanwhile"));
            }
            let begun = unpacking.take().filter(|begun| begun.taken() == from);
            let stored = packed.seek(SeekFrom::End(0)).and_then(|_| packed.write_all(bytes));
            *unpacking =
                begun.and_then(|mut begun| (stored.is_ok() && begun.take(bytes).is_ok()).then_some(begun));
            if unpacking.is_none() {
                // The disk may be full: what waits for the rest is not to keep it so. It is unpacked later, from what travelled.
                self.remove_unpacked()?;
            }
            stored
        })
    }

    /// Unpacks what has arrived, as far as that was not done when it came; or says what is wrong with it.
    pub(super) fn unpack(&self, snapshot: &Snapshot) -> Result<Result<PathBuf, String>> {
        self.with_open(|Open { packed, unpacking }| {
            if kept(packed, snapshot)? != Some(snapshot.bytes) {
                return Ok(Err("it has not arrived whole".to_owned()));
            }
            let unpacked = match unpacking.take().filter(|unpacking| unpacking.taken() == snapshot.bytes) {
                Some(unpacking) => unpacking,
                None => self.unpack_file(packed, snapshot)?,
            };
            let fault = unpacked.finish(snapshot)?;
            Ok(fault.map_or_else(|| Ok(self.unpacked.clone()), |fault| Err(fault.to_owned())))
        })
    }

    fn unpack_file(&self, packed: &mut File, snapshot: &Snapshot) -> io::Result<Unpacking> {
        let mut unpacking = self.unpacking(snapshot)?;
        packed.seek(SeekFrom::Start(Snapshot::DIGEST_CHARS as u64))?;
        let mut piece = vec![0; 1 << 17];
        loop {
            match packed.read(&mut piece)? {
                0 => return Ok(unpacking),
                read => unpacking.take(&piece[..read])?,
            }
        }
    }

    fn unpacking(&self, snapshot: &Snapshot) -> io::Result<Unpacking> {
        self.remove_unpacked()?;
        let target = file::private(OpenOptions::new().write(true).create_new(true)).open(&self.unpacked)?;
        Unpacking::new(target, snapshot)
    }

    /// Removes what is there, unless another process is at work with it.
    pub(crate) fn clear(&self) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Locked first, so that nobody begins with it meanwhile.
        let _held = match open.take() {
            Some(held) => Some(held.packed),
            None if !self.packed.exists() => None,
            None => match locked(&self.packed) {
                Err(ReplicaError::Busy) => return Ok(()),
                held => Some(held?),
            },
        };
        let removed = self.remove_unpacked().and_then(|()| remove(&self.packed));
        removed.map_err(file::failed(&self.packed))
    }

    /// Leaves what has arrived to whoever opens the database next.
    pub(crate) fn release(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether all of the unpacked database is in its file: what a log beside it still holds would not go with it under another name.
    pub(super) fn is_one_file(&self) -> bool {
        self.beside_unpacked("-wal").metadata().map_or(true, |log| log.len() == 0)
    }

    fn beside_unpacked(&self, suffix: &str) -> PathBuf {
        let mut name = self.unpacked.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    /// With what SQLite keeps beside it: a log that a killed process has left would be taken for that of the next file of this name.
    fn remove_unpacked(&self) -> io::Result<()> {
        for suffix in ["-wal", "-shm", "-journal", ""] {
            remove(&self.beside_unpacked(suffix))?;
        }
        Ok(())
    }

    fn with_open<T>(&self, work: impl FnOnce(&mut Open) -> io::Result<T>) -> Result<T> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match open.as_mut() {
            Some(open) => open,
            None => open.insert(Open { unpacking: None, packed: locked(&self.packed)? }),
        };
        work(open).map_err(file::failed(&self.packed))
    }
}

fn locked(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let file = file::private(options.read(true).write(true).create(true).truncate(false)).open(path);
    let file = file.map_err(file::failed(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ReplicaError::Busy),
        Err(TryLockError::Error(error)) => Err(file::failed(path)(error)),
    }
}

/// How many bytes of this snapshot the file has; `None` where it is of another one.
fn kept(file: &mut File, snapshot: &Snapshot) -> io::Result<Option<u64>> {
    file.rewind()?;
    let mut digest = String::new();
    let read = file.take(Snapshot::DIGEST_CHARS as u64).read_to_string(&mut digest);
    if read.is_err() || digest != snapshot.digest {
        return Ok(None);
    }
    Ok(Some(file.metadata()?.len() - Snapshot::DIGEST_CHARS as u64))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_with_a_log_beside_it_is_not_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::beside(&dir.path().join("new.db")).unwrap();
        assert!(staging.is_one_file());
        for (log, is_one) in [("", true), ("a frame", false)] {
            fs::write(dir.path().join("new.db-snapshot.db-wal"), log).unwrap();
            assert_eq!(staging.is_one_file(), is_one, "{log:?}");
        }
    }
}
