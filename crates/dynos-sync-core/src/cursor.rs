//! Where a replica stands in a table's history.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An opaque token of the server's, one per table: "this replica has seen every change of this table up to here".
///
/// Two cursors of one table are equal exactly when nothing lies between them. Nothing else can be read from one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// Longest token that a replica accepts, in bytes: a server is not to fill the device with them.
    pub const MAX_BYTES: usize = 512;

    /// Wraps a token that came from a server.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token, to be sent back as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
