//! Pushing: what to send, and what an answer means.

use std::collections::BTreeSet;

use crate::{
    clock::Millis,
    cursor::Cursor,
    entry::{Entry, Sent},
    ids::{RecordKey, Seq, TableName},
    plan::backoff::Backoff,
    redact::Redactor,
    replica::{Batch, Expected, Op, Revert, State},
    wire::{PushAnswer, PushEntry, PushRequest, PushResult},
};

/// A push, ready to be marked as sent and then sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// Marks the entries as sent. To be committed before the request leaves.
    pub batch: Batch,
    /// The entries as they are sent.
    pub entries: Vec<Entry>,
    /// The request.
    pub request: PushRequest,
}

/// Makes one entry of each group of pending entries, and a request of them all.
pub fn prepare(state: &State, groups: Vec<Vec<Entry>>) -> Prepared {
    let coalesced: Vec<(Entry, bool)> = groups.into_iter().filter_map(|group| coalesce(state, group)).collect();
    let fresh = coalesced.iter().filter(|(_, fresh)| *fresh);
    let ops = fresh.map(|(entry, _)| Op::Freeze(entry.clone())).collect();
    let entries: Vec<Entry> = coalesced.into_iter().map(|(entry, _)| entry).collect();
    let request = PushRequest {
        replica: state.replica,
        entries: entries.iter().map(|entry| outgoing(state, entry)).collect(),
    };
    let expected = Expected { generation: Some(state.generation), ..Expected::default() };
    Prepared { batch: Batch { expected, ops }, entries, request }
}

/// One entry with the effect of the group, under the number of its last, and whether it has to be marked as sent.
fn coalesce(state: &State, group: Vec<Entry>) -> Option<(Entry, bool)> {
    let mut entries = group.into_iter();
    let mut entry = entries.next()?;
    if entry.sent.is_some() {
        return Some((entry, false));
    }
    for later in entries {
        entry.edit = entry.edit.then(later.edit);
        entry.counter = later.counter;
        entry.at = entry.at.max(later.at);
    }
    let base: Option<Cursor> = state.table(&entry.key.table).and_then(|table| table.cursor.clone());
    entry.sent = Some(Sent { base });
    Some((entry, true))
}

fn outgoing(state: &State, entry: &Entry) -> PushEntry {
    let mut data = entry.edit.fields().cloned();
    if let (Some(fields), Some(table)) = (&mut data, state.table(&entry.key.table)) {
        // Captured rows were written by other programs, past the gate at `write`.
        Redactor::new(&table.policy.sensitive_fields).mask(fields);
    }
    PushEntry {
        counter: entry.counter,
        table: entry.key.table.clone(),
        id: entry.key.id.clone(),
        op: entry.edit.operation(),
        base: entry.sent.as_ref().and_then(|sent| sent.base.clone()),
        at: entry.at,
        data,
    }
}

/// How refusals are dealt with.
#[derive(Clone, Copy, Debug)]
pub struct RetryRules {
    /// After this many refusals an entry goes to the dead letters.
    pub max_retries: u32,
    /// How long a refused record waits.
    pub backoff: Backoff,
    /// Whether the local row keeps an edit that was refused for good.
    pub keep_refused: bool,
    /// The time.
    pub now: Millis,
}

/// What an answer to a push means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// What to do.
    pub batch: Batch,
    /// What became of each entry, in order.
    pub outcomes: Vec<EntryOutcome>,
    /// Tables to pull before pushing on.
    pub pull: BTreeSet<TableName>,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryOutcome {
    /// It is on the server.
    Pushed {
        /// The record.
        key: RecordKey,
        /// The change's number.
        seq: Seq,
    },
    /// Somebody else's change came first.
    Conflict {
        /// The record.
        key: RecordKey,
    },
    /// It was refused and will be sent again.
    Retry {
        /// The entry.
        entry: Entry,
        /// When.
        retry_at: Millis,
        /// The reason as a word.
        code: String,
        /// The reason in words.
        message: String,
    },
    /// It was refused for good.
    Dead {
        /// The entry.
        entry: Entry,
        /// The reason as a word.
        code: String,
        /// The reason in words.
        message: String,
    },
}

/// Reads an answer. `random` draws evenly distributed numbers for the jitter.
///
/// # Errors
/// A sentence, where the answer does not fit the request. Nothing of it may be used then.
pub fn answer(
    state: &State,
    sent: &[Entry],
    answer: &PushAnswer,
    rules: &RetryRules,
    mut random: impl FnMut() -> u64,
) -> Result<Answered, String> {
    if answer.results.len() != sent.len() {
        return Err(format!("{} results for {} entries", answer.results.len(), sent.len()));
    }
    if answer.heads.values().any(|head| head.before.as_str().len().max(head.after.as_str().len()) > Cursor::MAX_BYTES) {
        return Err(format!("a cursor is longer than {} bytes", Cursor::MAX_BYTES));
    }
    let mut answered = Answered::default();
    answered.batch.expected.generation = Some(state.generation);
    for (entry, result) in sent.iter().zip(&answer.results) {
        let outcome = read_result(entry, result, rules, &mut random);
        answered.batch.ops.push(op_for(entry, result, &outcome, rules));
        if let EntryOutcome::Conflict { key } = &outcome {
            answered.pull.insert(key.table.clone());
        }
        answered.outcomes.push(outcome);
    }
    for (table, moved) in &answer.heads {
        if !answered.pull.contains(table) {
            let (from, to) = (moved.before.clone(), moved.after.clone());
            answered.batch.ops.push(Op::Skip { table: table.clone(), from, to });
        }
    }
    Ok(answered)
}

fn read_result(
    entry: &Entry,
    result: &PushResult,
    rules: &RetryRules,
    random: &mut impl FnMut() -> u64,
) -> EntryOutcome {
    let key = entry.key.clone();
    match result {
        PushResult::Applied { seq, .. } | PushResult::Duplicate { seq, .. } => EntryOutcome::Pushed { key, seq: *seq },
        PushResult::Conflict { .. } => EntryOutcome::Conflict { key },
        PushResult::Rejected { code, message, .. } => {
            let attempts = entry.attempts.saturating_add(1);
            let (entry, code, message) = (entry.clone(), code.as_str().to_owned(), message.clone());
            if attempts >= rules.max_retries {
                return EntryOutcome::Dead { entry, code, message };
            }
            let pause = rules.backoff.pause(attempts, random()).as_millis();
            let retry_at = rules.now.saturating_add(Millis::try_from(pause).unwrap_or(Millis::MAX));
            EntryOutcome::Retry { entry, retry_at, code, message }
        }
    }
}

fn op_for(entry: &Entry, result: &PushResult, outcome: &EntryOutcome, rules: &RetryRules) -> Op {
    let (key, counter) = (entry.key.clone(), entry.counter);
    let stored = match result {
        PushResult::Applied { record, .. } | PushResult::Duplicate { record, .. } => record.clone(),
        _ => None,
    };
    match outcome {
        EntryOutcome::Pushed { .. } => Op::Settle { key, counter, record: stored },
        EntryOutcome::Conflict { .. } => Op::Thaw { key, counter },
        EntryOutcome::Retry { retry_at, .. } => Op::Postpone { key, counter, retry_at: *retry_at },
        EntryOutcome::Dead { code, message, .. } => {
            let revert = match result {
                _ if rules.keep_refused => Revert::Keep,
                PushResult::Rejected { current: Some(current), .. } => Revert::To(current.record.clone()),
                _ => Revert::ToBase,
            };
            Op::Bury { key, counter, code: code.clone(), message: message.clone(), at: rules.now, revert }
        }
    }
}
