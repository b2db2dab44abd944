//! What the core refuses, and why.

use std::fmt;

/// The fixed limits of the protocol. Configurable ones are documented where they are configured.
#[derive(Debug)]
pub struct Limits;

impl Limits {
    /// Longest table name, in bytes.
    pub const TABLE_NAME_BYTES: usize = 128;
    /// Longest record id, in bytes.
    pub const RECORD_ID_BYTES: usize = 1024;
    /// Deepest nesting of a record's values: what every JSON parser on the way is sure to accept.
    pub const DEPTH: usize = 64;
    /// Latest time of an edit, in milliseconds: the end of the year 9999. The earliest is 0.
    pub const LATEST: i64 = 253_402_300_799_999;
    /// Most edits of a transaction that takes effect on the server as a whole: it travels in one request.
    pub const TRANSACTION: usize = 1000;

    /// Refuses a transaction of more edits than [`TRANSACTION`](Self::TRANSACTION).
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn check_transaction(edits: usize) -> Result<(), Invalid> {
        if edits <= Self::TRANSACTION {
            return Ok(());
        }
        let problem = format!("{edits} edits, the limit is {}", Self::TRANSACTION);
        Err(Invalid::new("transaction", problem)
            .remedy("write less at once, or what need not take effect together with write_many"))
    }
}

/// Input that cannot be accepted: which field, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The argument, column or dotted field path that is at fault.
    pub field: String,
    /// What is wrong with it, with the limit where there is one.
    pub problem: String,
    /// What the caller can do.
    pub remedy: String,
}

impl Invalid {
    /// Describes a fault of `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), remedy: String::new() }
    }

    /// Says what the caller can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    pub(crate) fn too_long(field: &str, bytes: usize, limit: usize) -> Self {
        Self::new(field, format!("{bytes} bytes, the limit is {limit}")).remedy("shorten it")
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {}: {}", self.field, self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, " ({})", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}
