//! What can go wrong, and what to ask of it.

use dynos_sync_core::{Invalid, RecordKey, RemoteError, ReplicaError, plan::write::Refusal};

use crate::trace;

/// Why an operation of the engine failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The input is at fault: which field, why, and what to do.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The record is larger than `max_payload_bytes`.
    #[error("{key} has {bytes} bytes, the limit is {limit} (store large values elsewhere and refer to them)")]
    PayloadTooLarge {
        /// The record.
        key: RecordKey,
        /// Its size as compact JSON.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The record belongs to somebody else.
    #[error("{key} belongs to another user")]
    RlsViolation {
        /// The record.
        key: RecordKey,
        /// The owner that it names.
        row_owner: String,
    },
    /// The session has expired, and refreshing the token did not help: sign in again. Nothing is lost, the queue waits.
    #[error("the session has expired: {message} (sign in again; the queue waits)")]
    AuthExpired {
        /// What the server said.
        message: String,
    },
    /// A call to the backend failed.
    #[error(transparent)]
    Remote(RemoteError),
    /// The local database failed.
    #[error(transparent)]
    Replica(ReplicaError),
    /// Logging out would lose changes.
    #[error("{changes} changes are not synced (sync first, or discard them)")]
    Unsynced {
        /// How many.
        changes: u64,
    },
    /// The database belongs to another server.
    #[error(
        "this database syncs with server {bound}, and this is server {found} (use another database, or log out first)"
    )]
    WrongServer {
        /// The server that it belongs to.
        bound: String,
        /// The server that answered.
        found: String,
    },
    /// A row is not of the type that was asked for.
    #[error("a row of {what} is of another type: {problem} (ask for a type that all rows fit)")]
    Mismatch {
        /// The table or the query.
        what: String,
        /// Which field, and what it is.
        problem: String,
    },
    /// The user logged out, while this was under way or in another process. In the latter case the database may be somebody
    /// else's by now: an engine that another process has logged out does nothing more, until it is logged out itself or opened anew.
    #[error(
        "the session was ended by a logout (if that was another process: log out here, too, or open the engine again)"
    )]
    SessionEnded,
    /// What was to be synced kept changing, here or on the server, many times in a row.
    #[error("the {0} keeps changing while it is being synced (try again)")]
    Contention(String),
    /// Something that the sync called panicked: a token provider, a remote of the application's, or the engine itself. The
    /// queue waits, local edits go on.
    #[error("the sync was ended by a panic (the program's panic hook has its message; the queue waits)")]
    Panicked,
    /// The engine was closed.
    #[error("the engine was closed")]
    Closed,
}

impl SyncError {
    /// Whether the same call may work later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Remote(error) => error.is_transient(),
            Self::Replica(error) => error.is_transient(),
            Self::Contention(_) => true,
            _ => false,
        }
    }

    /// What kind of failure it is, as a word that does not change: for logs and metrics, which the message is not for.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::PayloadTooLarge { .. } => "too_large",
            Self::RlsViolation { .. } => "foreign",
            Self::AuthExpired { .. } => "signed_out",
            Self::Remote(error) => trace::kind(error),
            Self::Replica(_) => "database",
            Self::Unsynced { .. } => "unsynced",
            Self::WrongServer { .. } => "wrong_server",
            Self::Mismatch { .. } => "mismatch",
            Self::SessionEnded => "session_ended",
            Self::Contention(_) => "contention",
            Self::Panicked => "panicked",
            Self::Closed => "closed",
        }
    }

    /// Whether somebody has to sign in.
    pub fn is_auth(&self) -> bool {
        matches!(self, Self::AuthExpired { .. })
    }
}

impl From<RemoteError> for SyncError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::AuthExpired { message } => Self::AuthExpired { message },
            error => Self::Remote(error),
        }
    }
}

impl From<ReplicaError> for SyncError {
    fn from(error: ReplicaError) -> Self {
        match error {
            ReplicaError::Invalid(invalid) => Self::Invalid(invalid),
            ReplicaError::Closed => Self::Closed,
            ReplicaError::Foreign { key, row_owner } => Self::RlsViolation { key, row_owner },
            error => Self::Replica(error),
        }
    }
}

impl From<Refusal> for SyncError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(invalid) => Self::Invalid(invalid),
            Refusal::PayloadTooLarge { key, bytes, limit } => Self::PayloadTooLarge { key, bytes, limit },
            Refusal::RlsViolation { key, row_owner } => Self::RlsViolation { key, row_owner },
            other => Self::Invalid(Invalid::new("edit", other.to_string())),
        }
    }
}
