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
    /// Whether there were more.
    exceeded: bool,
    /// Whether the file itself could not be written.
    failed: bool,
}

impl Unpacking {
    /// Begins to unpack into an empty file.
    pub(super) fn new(target: File, snapshot: &Snapshot) -> io::Result<Self> {
        let target = Bounded { file: target, left: snapshot.size, exceeded: false, failed: false };
        let mut decoder = Decoder::new(BufWriter::with_capacity(1 << 17, target))?;
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
            self.unpack(|decoder| decoder.do_finish().and_then(|()| decoder.get_mut().flush()))?;
        }
        if hexadecimal(std::mem::take(&mut self.digest)) != snapshot.digest {
            return Ok(Some("its digest is another than was announced"));
        }
        let is_short = self.target().left > 0;
        Ok(self.fault.or(is_short.then_some(Self::SIZE)))
    }

    const SIZE: &str = "its size is another than was announced";

    fn target(&self) -> &Bounded {
        self.decoder.get_ref().get_ref()
    }

    fn unpack(
        &mut self,
        work: impl FnOnce(&mut Decoder<'static, BufWriter<Bounded>>) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Err(error) = work(&mut self.decoder) {
            let Bounded { exceeded, failed, .. } = self.target();
            match (exceeded, failed) {
                (true, _) => self.fault = Some(Self::SIZE),
                (_, true) => return Err(error),
                _ => self.fault = Some("it cannot be unpacked"),
            }
        }
        Ok(())
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            self.exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = self.file.write(bytes).inspect_err(|_| self.failed = true)?;
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
