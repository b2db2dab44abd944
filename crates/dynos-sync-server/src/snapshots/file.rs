//! Where snapshots are kept, and how they are read in pieces.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use dynos_sync_sqlite::snapshot::pack;

use super::fresh_name;
use crate::store::StoreError;

/// A directory of the server's own, made when it is first used.
#[derive(Debug)]
pub(super) struct Place {
    /// Where the operator wants it.
    wanted: Option<PathBuf>,
    made: OnceLock<PathBuf>,
}

impl Place {
    /// In the system's directory for temporary files, where none is wanted.
    pub(super) fn new(wanted: Option<PathBuf>) -> Self {
        Self { wanted, made: OnceLock::new() }
    }

    /// A new file's name.
    pub(super) fn file(&self) -> Result<File, StoreError> {
        let directory = match self.made.get() {
            Some(directory) => directory,
            None => {
                let temporary = std::env::temp_dir().join(format!("dynos-sync-{}", fresh_name()?));
                let directory = self.wanted.clone().unwrap_or(temporary);
                make(&directory).map_err(|error| failed(&directory, &error))?;
                self.made.get_or_init(|| directory)
            }
        };
        Ok(File(directory.join(format!("{}.{BUILT}", fresh_name()?))))
    }

    pub(super) fn remove(&self) {
        if let Some(directory) = self.made.get() {
            empty(directory);
            // Somebody else's files may be in it.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Nothing that an earlier process left is of use.
fn make(directory: &Path) -> io::Result<()> {
    empty(directory);
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn empty(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let ours = |path: &Path| path.extension().is_some_and(|name| name == BUILT || name == PACKED);
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| ours(path)) {
        let _ = fs::remove_file(path);
    }
}

/// The files' extensions.
const BUILT: &str = "snapshot";
const PACKED: &str = "snapshot-zst";

/// An SQLite file that is being built. It is gone when this is dropped.
#[derive(Debug)]
pub(super) struct File(PathBuf);

impl File {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }

    pub(super) fn pack(&self) -> Result<Packed, StoreError> {
        let path = self.0.with_extension(PACKED);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // Gone again where packing fails.
        let mut packed = Packed { path, bytes: 0, digest: String::new() };
        let packing = options
            .open(&packed.path)
            .and_then(|file| pack(&self.0, BufWriter::with_capacity(1 << 17, file)));
        (packed.bytes, packed.digest) = packing.map_err(|error| failed(&packed.path, &error))?;
        Ok(packed)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A snapshot as it travels. The file is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Packed {
    path: PathBuf,
    pub(super) bytes: u64,
    pub(super) digest: String,
}

impl Packed {
    /// At most `most` bytes from `from` on.
    pub(super) fn read(&self, from: u64, most: usize) -> Result<Vec<u8>, StoreError> {
        let read = || {
            let mut file = fs::File::open(&self.path)?;
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::with_capacity(most.min(1 << 20));
            file.take(most as u64).read_to_end(&mut bytes).map(|_| bytes)
        };
        read().map_err(|error| failed(&self.path, &error))
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    tracing::warn!(%error, path = %path.display(), "a snapshot could not be kept");
    StoreError::Unavailable
}
