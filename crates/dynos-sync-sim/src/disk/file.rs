//! A file: what processes see of it, and what of that is on the disk for certain.

use super::{
    fault::{Fate, Loss},
    locks::Locks,
};

#[derive(Debug, Default)]
pub(super) struct File {
    bytes: Vec<u8>,
    /// As it was when it was last synced.
    synced: Vec<u8>,
    /// What was done to it since.
    since: Vec<Change>,
    pub(super) locks: Locks,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl File {
    /// A file that is on the disk.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { synced: bytes.clone(), bytes, ..Self::default() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        write(&mut self.bytes, offset, bytes);
        self.since.push(Change::Write(offset, bytes.to_vec()));
    }

    pub(super) fn truncate(&mut self, size: usize) {
        self.bytes.truncate(size);
        self.since.push(Change::Truncate(size));
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.since) {
            match change {
                Change::Write(offset, bytes) => write(&mut self.synced, offset, &bytes),
                Change::Truncate(size) => self.synced.truncate(size),
            }
        }
    }

    /// What was not synced is lost, or a part of it.
    pub(super) fn lose(&mut self, loss: &mut Loss) {
        let since = std::mem::take(&mut self.since);
        let length = |change: &Change| match change {
            Change::Write(_, bytes) => bytes.len(),
            Change::Truncate(_) => 0,
        };
        let fates = loss.fates(&since.iter().map(length).collect::<Vec<_>>());
        for (change, fate) in since.into_iter().zip(fates) {
            match (change, fate) {
                (Change::Write(offset, bytes), Fate::Kept) => write(&mut self.synced, offset, &bytes),
                (Change::Write(offset, bytes), Fate::Torn(much)) => {
                    write(&mut self.synced, offset, &bytes[..much]);
                }
                (Change::Truncate(size), Fate::Kept) => self.synced.truncate(size),
                (Change::Truncate(_), Fate::Torn(_)) | (_, Fate::Lost) => {}
            }
        }
        self.bytes.clone_from(&self.synced);
    }
}

/// Reads, and answers how much there was to read.
pub(super) fn read(bytes: &[u8], offset: usize, into: &mut [u8]) -> usize {
    let there = bytes.len().saturating_sub(offset).min(into.len());
    into[..there].copy_from_slice(&bytes[offset.min(bytes.len())..][..there]);
    there
}

pub(super) fn write(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[offset..end].copy_from_slice(bytes);
}
