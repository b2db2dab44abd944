//! Unpacking a snapshot while it arrives: no more than was announced, into a file that is used once its digest is right.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

use dynos_sync_core::snapshot::Snapshot;
use sha2::{Digest, Sha256};
use zstd::stream::write::Decoder;

use super::build::hexadecimal;

/// The largest window that the frame may ask for, as a power of two: without a bound a few bytes could claim 2 GiB.
const WINDOW_LOG: u32 = 23;

/// A snapshot of which a part was unpacked.
pub(super) struct Unpacking {
    decoder: Decoder<'static, BufWriter<Bounded>>,
    digest: Sha256,
    /// How many packed bytes were taken in.
    taken: u64,
    /// What is wrong with them. Bytes after that are hashed only: what counts first is whether they are those that were announced.
    fault: Option<&'static str>,
}

/// A file that takes no more than so many bytes.
struct Bounded {
    file: File,
    left: u64,
}

impl Unpacking {
    /// Begins to unpack into an empty file.
    pub(super) fn new(target: File, snapshot: &Snapshot) -> io::Result<Self> {
        let target = BufWriter::with_capacity(1 << 17, Bounded { file: target, left: snapshot.size });
        let mut decoder = Decoder::new(target)?;
        decoder.window_log_max(WINDOW_LOG)?;
        Ok(Self { decoder, digest: Sha256::new(), taken: 0, fault: None })
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Unpacks what comes next.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.taken += bytes.len() as u64;
        match self.fault {
            Some(_) => Ok(()),
            None => self.unpack(|decoder| decoder.write_all(bytes)),
        }
    }

    /// Ends it. Answers what is wrong, if something is.
    pub(super) fn finish(mut self, snapshot: &Snapshot) -> io::Result<Option<&'static str>> {
        if self.fault.is_none() {
            self.unpack(Write::flush)?;
        }
        if hexadecimal(self.digest) != snapshot.digest {
            return Ok(Some("its digest is another than was announced"));
        }
        let is_short = self.decoder.get_ref().get_ref().left > 0;
        Ok(self.fault.or(is_short.then_some(Bounded::FAULT)))
    }

    fn unpack(
        &mut self,
        work: impl FnOnce(&mut Decoder<'static, BufWriter<Bounded>>) -> io::Result<()>,
    ) -> io::Result<()> {
        match work(&mut self.decoder) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => self.fault = Some(Bounded::FAULT),
            Err(_) => self.fault = Some("it cannot be unpacked"),
            Ok(()) => {}
        }
        Ok(())
    }
}

impl Bounded {
    const FAULT: &'static str = "its size is another than was announced";
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = self.file.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl std::fmt::Debug for Unpacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacking").field("taken", &self.taken).finish_non_exhaustive()
    }
}
