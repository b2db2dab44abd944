//! What has arrived of a snapshot, in files beside the database: `-snapshot` as it travels, behind its digest, so that fetching it can
//! go on after a restart; and `-snapshot.db`, unpacked, for as long as its tables are copied.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use dynos_sync_core::{ReplicaError, snapshot::Snapshot};
use sha2::{Digest, Sha256};

use super::build::hexadecimal;
use crate::{
    error::Result,
    file,
    sync::{Mutex, PoisonError},
};

/// The largest window that the frame may ask for, as a power of two: without a bound a few bytes could claim 2 GiB.
const WINDOW_LOG: u32 = 23;

/// The files.
#[derive(Debug)]
pub(crate) struct Staging {
    packed: PathBuf,
    unpacked: PathBuf,
    /// Held by this process alone while it is open.
    open: Mutex<Option<File>>,
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
        self.with_file(|file| {
            let kept = kept(file, snapshot)?;
            if kept.is_none_or(|kept| kept > snapshot.bytes) {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(snapshot.digest.as_bytes())?;
                return Ok(0);
            }
            Ok(kept.unwrap_or(0))
        })
    }

    /// Keeps more of it.
    pub(super) fn append(&self, snapshot: &Snapshot, from: u64, bytes: &[u8]) -> Result<()> {
        self.with_file(|file| {
            if kept(file, snapshot)? != Some(from) {
                return Err(io::Error::other("another snapshot was staged meanwhile"));
            }
            file.seek(SeekFrom::End(0))?;
            file.write_all(bytes)
        })
    }

    /// Unpacks what has arrived, or says what is wrong with it.
    pub(super) fn unpack(&self, snapshot: &Snapshot) -> Result<Result<PathBuf, String>> {
        self.with_file(|file| {
            if kept(file, snapshot)? != Some(snapshot.bytes) {
                return Ok(Err("it has not arrived whole".to_owned()));
            }
            file.seek(SeekFrom::Start(Snapshot::DIGEST_CHARS as u64))?;
            self.remove_unpacked()?;
            let mut target =
                file::private(OpenOptions::new().write(true).create_new(true)).open(&self.unpacked)?;
            let fault = copy(file, &mut target, snapshot)?;
            Ok(fault.map_or_else(|| Ok(self.unpacked.clone()), Err))
        })
    }

    /// Removes what is there, unless another process is at work with it.
    pub(crate) fn clear(&self) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Locked first, so that nobody begins with it meanwhile.
        let _held = match open.take() {
            Some(held) => Some(held),
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

    fn with_file<T>(&self, work: impl FnOnce(&mut File) -> io::Result<T>) -> Result<T> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match open.as_mut() {
            Some(file) => file,
            None => open.insert(locked(&self.packed)?),
        };
        work(file).map_err(file::failed(&self.packed))
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

/// Unpacks no more than was announced, and compares digests. Answers what is wrong, if something is.
fn copy(packed: &mut File, target: &mut File, snapshot: &Snapshot) -> io::Result<Option<String>> {
    let mut hashed = Hashed { from: packed, digest: Sha256::new(), failed: false };
    let unpacked = unpack(&mut hashed, target, snapshot.size);
    if hashed.failed {
        return unpacked.map(|_| None);
    }
    // What the frame does not use counts, too.
    io::copy(&mut hashed, &mut io::sink())?;
    if hexadecimal(hashed.digest) != snapshot.digest {
        return Ok(Some("its digest is another than was announced".to_owned()));
    }
    match unpacked {
        Ok(size) if size == snapshot.size => Ok(None),
        Ok(_) => Ok(Some("its size is another than was announced".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(error),
        Err(_) => Ok(Some("it cannot be unpacked".to_owned())),
    }
}

fn unpack(packed: impl Read, target: &mut File, size: u64) -> io::Result<u64> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(1 << 17, packed))?;
    decoder.window_log_max(WINDOW_LOG)?;
    // One more than there should be, to see that there is more.
    io::copy(&mut BufReader::with_capacity(1 << 17, decoder.take(size.saturating_add(1))), target)
}

/// Hashes what is read.
struct Hashed<'a> {
    from: &'a mut File,
    digest: Sha256,
    /// Whether the file itself could not be read.
    failed: bool,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer).inspect_err(|_| self.failed = true)?;
        self.digest.update(&buffer[..read]);
        Ok(read)
    }
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
