//! The spans of the engine's work. Names and fields are a contract: `docs/observability.md` lists them.
//!
//! Nothing of a user's is in a field: no value, no id, no message; tables' names are.

use dynos_sync_core::{RemoteError, TableName, replica::Outcome};
use tracing::{Span, debug_span, field::Empty, info_span};

use crate::{
    error::SyncError,
    report::{DrainReport, PullReport, SyncReport},
};

/// A job: `dynos.sync`, `dynos.drain` or `dynos.pull`.
pub(crate) fn job(job: Job) -> Span {
    match job {
        Job::Sync => info_span!(target: "dynos_sync", "dynos.sync", outcome = Empty),
        Job::Drain => info_span!(target: "dynos_sync", "dynos.drain", pushed = Empty, outcome = Empty),
        Job::Pull => info_span!(target: "dynos_sync", "dynos.pull", tables = Empty, outcome = Empty),
    }
}

/// A job that spans are made for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Job {
    Sync,
    Drain,
    Pull,
}

/// What the report of a job says.
pub(crate) trait Report {
    /// Writes it into the job's span.
    fn record(&self, span: &Span);

    /// Whether the server was called, as far as there was anything to ask it.
    fn has_called(&self) -> bool {
        true
    }
}

impl Report for SyncReport {
    fn record(&self, _: &Span) {}
}

impl Report for DrainReport {
    fn record(&self, span: &Span) {
        span.record("pushed", self.pushed);
    }

    fn has_called(&self) -> bool {
        self.cycles > 0
    }
}

impl Report for PullReport {
    fn record(&self, span: &Span) {
        span.record("tables", self.tables.len());
    }
}

/// A request with edits.
pub(crate) fn push(records: usize, bytes: usize) -> Span {
    debug_span!(target: "dynos_sync", "dynos.push", records, bytes, outcome = Empty)
}

/// The pull of a table.
pub(crate) fn table(table: &TableName) -> Span {
    debug_span!(target: "dynos_sync", "dynos.table", %table, pages = Empty, rows = Empty, outcome = Empty)
}

/// A snapshot that is taken.
pub(crate) fn snapshot(tables: usize) -> Span {
    debug_span!(target: "dynos_sync", "dynos.snapshot", tables, bytes = Empty, rows = Empty, outcome = Empty)
}

/// A change of the database.
pub(crate) fn commit(ops: usize) -> Span {
    debug_span!(target: "dynos_sync", "dynos.commit", ops, outcome = Empty)
}

/// Writes into the span how what it is about has ended.
pub(crate) fn end<T>(span: &Span, result: &Result<T, SyncError>) {
    span.record("outcome", result.as_ref().map_or_else(SyncError::kind, |_| "ok"));
}

/// As [`end`], for a call of the server's.
pub(crate) fn end_call<T>(span: &Span, result: &Result<T, RemoteError>) {
    span.record("outcome", result.as_ref().map_or_else(kind, |_| "ok"));
}

/// What kind of failure a call has met, as [`SyncError::kind`] names it.
pub(crate) fn kind(error: &RemoteError) -> &'static str {
    match error {
        RemoteError::Transient { .. } => "unreachable",
        RemoteError::AuthExpired { .. } => "signed_out",
        RemoteError::TooLarge => "too_large",
        _ => "server",
    }
}

/// As [`end`], for a change of the database.
pub(crate) fn end_commit(span: &Span, result: &Result<Outcome, SyncError>) {
    match result {
        Ok(Outcome::Stale) => drop(span.record("outcome", "stale")),
        result => end(span, result),
    }
}
