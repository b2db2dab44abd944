//! The secret that signs a server's tokens.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use dynos_sync_server::config::Secret;

use crate::error::{Code, Failure};

/// Where the secret of a data directory is.
pub(crate) fn path(data: &Path, given: Option<&PathBuf>) -> PathBuf {
    given.cloned().unwrap_or_else(|| data.join("secret"))
}

/// Reads a secret that is there.
pub(crate) fn read(path: &Path) -> Result<Secret, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        let failure = Failure::file(path, &error);
        match error.kind() {
            io::ErrorKind::NotFound => {
                failure.hint("start `dynos serve` first: it makes its secret; or name it with --secret-file")
            }
            _ => failure,
        }
    })?;
    let secret = text.trim();
    if secret.len() < Secret::MIN_BYTES {
        let message = format!("{}: the secret is shorter than {} bytes", path.display(), Secret::MIN_BYTES);
        return Err(Failure::new(Code::Invalid, message).hint("`openssl rand -hex 32` makes a good one"));
    }
    Ok(Secret::new(secret))
}

/// Reads a secret, making it where it is missing: readable for its owner only, and never over another one.
pub(crate) fn read_or_make(path: &Path) -> Result<Secret, Failure> {
    if !path.exists() {
        make(path).map_err(|error| Failure::file(path, &error))?;
    }
    read(path)
}

fn make(path: &Path) -> io::Result<()> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = tempfile::NamedTempFile::new_in(directory(path))?;
    writeln!(file, "{secret}")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        // Another server that starts at the same time was faster: its secret counts.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.map(drop).map_err(|error| error.error),
    }
}

/// The directory that a file is in.
pub(crate) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
