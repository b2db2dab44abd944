//! SQLite's errors as the seam names them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use dynos_sync_core::{RecordKey, ReplicaError};
use rusqlite::{Error, ErrorCode, ffi};

pub(crate) type Result<T, E = ReplicaError> = std::result::Result<T, E>;

/// Translates an error of SQL about the engine's own tables. No message of SQLite's carries a row's values.
pub(crate) fn translate(error: Error) -> ReplicaError {
    if is_foreign(&error) { ReplicaError::Corrupt(error.to_string()) } else { of_table(error) }
}

/// Translates an error of the engine's SQL about the application's tables, which may refuse what they like.
pub(crate) fn of_table(error: Error) -> ReplicaError {
    let ours =
        matches!(error.sqlite_error_code(), Some(ErrorCode::Unknown)) && error.to_string().contains("dynos_");
    if ours || is_unreadable(&error) { ReplicaError::Corrupt(error.to_string()) } else { of_theirs(error) }
}

/// Whether something was read that nobody can have written there.
fn is_unreadable(error: &Error) -> bool {
    matches!(
        error,
        Error::FromSqlConversionFailure(..)
            | Error::InvalidColumnType(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..)
            | Error::QueryReturnedNoRows
    )
}

/// Whether the engine's tables are not as it made them: one that is not there, or has other columns; a number that is given
/// already.
fn is_foreign(error: &Error) -> bool {
    match error {
        Error::SqliteFailure(code, message) => match code.code {
            ErrorCode::Unknown => code.extended_code == ffi::SQLITE_ERROR,
            ErrorCode::ConstraintViolation => message.as_ref().is_some_and(|text| text.contains(": dynos_")),
            _ => false,
        },
        Error::SqlInputError { .. } => true,
        _ => false,
    }
}

/// Translates an error of the application's SQL.
pub(crate) fn of_theirs(error: Error) -> ReplicaError {
    let message = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            ReplicaError::Busy
        }
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
        None => of_table(error),
    }
}

/// Something in the engine's own tables cannot be read.
pub(crate) fn damaged(what: &str, error: impl std::fmt::Display) -> ReplicaError {
    ReplicaError::Corrupt(format!("{what}: {error}"))
}

/// Names the file, where somebody has to look at it.
pub(crate) fn at(path: &Path) -> impl Fn(ReplicaError) -> ReplicaError {
    move |error| match error {
        ReplicaError::Corrupt(what) => ReplicaError::Corrupt(format!("{}: {what}", path.display())),
        ReplicaError::ReadOnly(what) => ReplicaError::ReadOnly(format!("{}: {what}", path.display())),
        other => other,
    }
}

/// Runs what may be an application's own code: a panic in it fails the transaction, and does not take the thread with it.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| {
        let message = "what was run in the database panicked; it was undone".to_owned();
        Err(ReplicaError::Storage { message, source: None })
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}
