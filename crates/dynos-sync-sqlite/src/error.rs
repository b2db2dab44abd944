//! SQLite's errors as the seam names them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dynos_sync_core::{RecordKey, ReplicaError};
use rusqlite::{Error, ErrorCode};

pub(crate) type Result<T, E = ReplicaError> = std::result::Result<T, E>;

/// Translates an error. No message of SQLite's carries a row's values.
pub(crate) fn translate(error: Error) -> ReplicaError {
    let message = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ReplicaError::Busy,
        Some(ErrorCode::DiskFull) => ReplicaError::Full,
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            ReplicaError::ReadOnly(message)
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ReplicaError::Corrupt(message),
        _ => ReplicaError::Storage { message, source: Some(Box::new(error)) },
    }
}

/// The reason, where the application's table refuses a row.
pub(crate) fn refusal(error: &Error) -> Option<String> {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => Some(error.to_string()),
        _ => None,
    }
}

/// Translates an error of a write to one record.
pub(crate) fn of_record(key: &RecordKey) -> impl Fn(Error) -> ReplicaError {
    move |error| match refusal(&error) {
        Some(message) => ReplicaError::Constraint { key: key.clone(), message },
        None => translate(error),
    }
}

/// Something in the engine's own tables cannot be read.
pub(crate) fn damaged(what: &str, error: impl std::fmt::Display) -> ReplicaError {
    ReplicaError::Corrupt(format!("{what}: {error}"))
}

/// Runs what may be an application's own code: a panic in it fails the transaction, and does not take the thread with it.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| {
        let message = "what was run in the database panicked; it was undone".to_owned();
        Err(ReplicaError::Storage { message, source: None })
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}
