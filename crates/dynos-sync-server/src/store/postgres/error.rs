//! What goes wrong with a database.

use dynos_sync_core::wire::Expired;
use tokio_postgres::error::{DbError, SqlState};

use crate::store::StoreError;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options make no sense.
    #[error("{0}")]
    Options(String),
    /// The certificate authority cannot be used.
    #[error("the database's certificate cannot be verified: {0}")]
    Certificate(String),
    /// It cannot be reached, or lets nobody in.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// The sync functions cannot be installed in it.
    #[error("the sync functions cannot be installed: {0}")]
    Install(String),
}

/// What the database says, without what it quotes of values.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = match inner.downcast_ref::<DbError>() {
            Some(db) => format!("{text}: {} ({})", db.message(), db.code().code()),
            None => format!("{text}: {inner}"),
        };
        cause = inner.source();
    }
    text
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => raised(db),
            None if error.is_closed() || is_io(&error) => Self::Unavailable,
            None => Self::Corrupt("the answer of the database".to_owned()),
        }
    }
}

/// The functions raise what concerns a whole call under the HTTP status that it is answered with.
fn raised(error: &DbError) -> StoreError {
    let message = || error.message().to_owned();
    match error.code().code() {
        "PT409" => StoreError::Forked(error.detail().and_then(|counter| counter.parse().ok()).unwrap_or(0)),
        "PT410" => match error.detail().map(serde_json::from_str::<Expired>) {
            Some(Ok(expired)) => StoreError::Expired(expired),
            _ => StoreError::Corrupt("why a cursor has expired".to_owned()),
        },
        "PT413" => StoreError::TooLarge(message()),
        "PT401" | "PT422" => StoreError::Invalid(match error.hint() {
            Some(hint) => format!("{} ({hint})", error.message()),
            None => message(),
        }),
        "PT503" => StoreError::Unavailable,
        code if code == SqlState::QUERY_CANCELED.code() => StoreError::TimedOut,
        // Lost connections, failed serialization, a lack of resources, somebody else's lock, shutting down or not yet
        // up, a standby: it may work later.
        code if ["08", "40", "53", "55", "57"].contains(&&code[..2]) || code == "25006" => {
            tracing::warn!(code, "the database cannot answer now");
            StoreError::Unavailable
        }
        // The message may quote values.
        code => StoreError::Database(code.to_owned()),
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}
