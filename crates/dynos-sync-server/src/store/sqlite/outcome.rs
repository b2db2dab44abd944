//! What became of entries, kept so that a repeat has no second effect.

use dynos_sync_core::{
    Counter, Millis, Seq,
    sabotage::{Mutant, is_on},
    wire::RejectCode,
};
use rusqlite::{Connection, OptionalExtension as _};

use super::catalog::WriterId;
use crate::store::{StoreError, digest::Digest};

/// What became of an entry.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// It is the change with this number, or came too late after it.
    Applied { seq: Seq },
    /// It was refused.
    Rejected { code: RejectCode, message: String },
}

/// The outcome of an entry, if it had one.
///
/// # Errors
/// [`StoreError::Forked`] where another entry had this number.
pub(super) fn find(
    conn: &Connection,
    writer: WriterId,
    counter: Counter,
    digest: &Digest,
) -> Result<Option<Outcome>, StoreError> {
    let mut find = conn.prepare_cached(
        "SELECT digest, seq, code, message FROM outcomes WHERE writer = ?1 AND counter = ?2",
    )?;
    let found = find
        .query_row((writer, counter), |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get::<_, Option<String>>(2)?, row.get(3)?))
        })
        .optional()?;
    let Some((known, seq, code, message)) = found else { return Ok(None) };
    if known != digest && !is_on(Mutant::CopyUnnoticed) {
        return Err(StoreError::Forked(counter));
    }
    match (seq, code, message) {
        (Some(seq), ..) => Ok(Some(Outcome::Applied { seq })),
        (None, Some(code), Some(message)) => Ok(Some(Outcome::Rejected { code: parse(&code)?, message })),
        _ => Err(StoreError::Corrupt("an entry's outcome".to_owned())),
    }
}

/// Keeps an outcome.
pub(super) fn keep(
    conn: &Connection,
    writer: WriterId,
    counter: Counter,
    digest: &Digest,
    outcome: &Outcome,
    now: Millis,
) -> Result<(), StoreError> {
    let (seq, code, message) = match outcome {
        Outcome::Applied { seq } => (Some(*seq), None, None),
        Outcome::Rejected { code, message } => (None, Some(code.as_str()), Some(message)),
    };
    conn.prepare_cached(
        "INSERT INTO outcomes (writer, counter, digest, seq, code, message, stored)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((writer, counter, digest.as_slice(), seq, code, message, now))?;
    Ok(())
}

/// Which of these entries were applied, up to `end`.
pub(super) fn settled(
    conn: &Connection,
    writer: WriterId,
    counters: &[Counter],
    end: Option<Seq>,
) -> Result<Vec<Counter>, StoreError> {
    let mut find = conn.prepare_cached(
        "SELECT 1 FROM outcomes WHERE writer = ?1 AND counter = ?2 AND seq IS NOT NULL AND (?3 IS NULL OR seq <= ?3)",
    )?;
    let mut settled = Vec::new();
    for counter in counters.iter().filter(|counter| i64::try_from(**counter).is_ok()) {
        if find.exists((writer, counter, end))? {
            settled.push(*counter);
        }
    }
    Ok(settled)
}

/// A message that may name what the caller sent is bounded before it is kept and answered.
pub(super) fn shorten(mut message: String) -> String {
    const LONGEST: usize = 400;
    if message.len() > LONGEST {
        message.truncate(message.floor_char_boundary(LONGEST));
        message.push('…');
    }
    message
}

fn parse(code: &str) -> Result<RejectCode, StoreError> {
    let known = serde_json::from_value(code.into());
    known.map_err(|_| StoreError::Corrupt("the code of a refusal".to_owned()))
}
