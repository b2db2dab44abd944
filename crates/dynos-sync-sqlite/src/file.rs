//! Files that this crate makes itself, beside SQLite.

use std::{fs::OpenOptions, io, path::Path};

use dynos_sync_core::ReplicaError;

/// Whether SQLite would take the name for something else than a file.
pub(crate) fn is_none(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.starts_with("file:") || text == ":memory:")
}

/// The rows are the user's, and nobody else's on this machine.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Translates an error of the file system.
pub(crate) fn failed(path: &Path) -> impl Fn(io::Error) -> ReplicaError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ReplicaError::Full,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ReplicaError::ReadOnly(format!("{}: {error}", path.display()))
        }
        _ => {
            let message = format!("{}: {error}", path.display());
            ReplicaError::Storage { message, source: Some(Box::new(error)) }
        }
    }
}
