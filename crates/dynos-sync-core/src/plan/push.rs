//! Pushing: what to send, and what an answer means.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    clock::Millis,
    cursor::Cursor,
    entry::{Edit, Entry, Sent},
    ids::{Counter, RecordKey, Seq, TableName},
    plan::backoff::Backoff,
    redact::Redactor,
    replica::{Batch, DeadLetter, Expected, Op, Revert, State, TableState},
    sabotage::{Mutant, is_on},
    wire::{PushAnswer, PushEntry, PushRequest, PushResult, RejectCode},
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
    let coalesced: Vec<(Entry, bool)> =
        groups.into_iter().filter_map(|group| coalesce(state, group)).collect();
    let fresh = coalesced.iter().filter(|(_, fresh)| *fresh);
    let ops = fresh.map(|(entry, _)| Op::Freeze(entry.clone())).collect();
    let entries: Vec<Entry> = coalesced.into_iter().map(|(entry, _)| entry).collect();
    let request = PushRequest {
        seen: seen(state, &entries),
        ..PushRequest::new(state.replica, entries.iter().map(outgoing).collect())
    };
    let expected = Expected { generation: Some(state.generation), ..Expected::default() };
    Prepared { batch: Batch { expected, ops, ..Batch::default() }, entries, request }
}

/// How far the histories of the entries' tables were seen: an entry that is sent again has an older base.
fn seen(state: &State, entries: &[Entry]) -> BTreeMap<TableName, Cursor> {
    let tables = entries.iter().filter_map(|entry| state.table(&entry.key.table));
    let place = |table: &TableState| table.ahead.clone().or_else(|| table.cursor.clone());
    let tables = tables.filter(|_| !is_on(Mutant::PushSeenLeftOut));
    tables.filter_map(|table| Some((table.spec.name.clone(), place(table)?))).collect()
}

/// One entry with the effect of the group, under the number of its last, and whether it has to be marked as sent.
fn coalesce(state: &State, group: Vec<Entry>) -> Option<(Entry, bool)> {
    let mut entries = group.into_iter();
    let mut entry = entries.next()?;
    if entry.sent.is_some() {
        // A field may have become sensitive since. The server will not take it for a repeat then; better that.
        mask(state, &mut entry);
        return Some((entry, false));
    }
    for later in entries {
        entry.edit = entry.edit.then(later.edit);
        entry.counter = later.counter;
        entry.at = entry.at.max(later.at);
    }
    let base: Option<Cursor> = state.table(&entry.key.table).and_then(|table| table.cursor.clone());
    entry.sent = Some(Sent { base });
    mask(state, &mut entry);
    Some((entry, true))
}

/// Captured rows were written by other programs, past the gate at `write`. An entry is masked before it is frozen, so
/// that it is repeated as it was sent.
fn mask(state: &State, entry: &mut Entry) {
    if let (Some(fields), Some(table)) = (entry.edit.fields_mut(), state.table(&entry.key.table)) {
        Redactor::new(&table.policy.sensitive_fields).mask(fields);
    }
}

fn outgoing(entry: &Entry) -> PushEntry {
    PushEntry {
        counter: entry.counter,
        table: entry.key.table.clone(),
        id: entry.key.id.clone(),
        op: entry.edit.operation(),
        base: entry.sent.as_ref().and_then(|sent| sent.base.clone()),
        at: entry.at,
        data: entry.edit.fields().cloned(),
        transaction: entry.transaction,
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
    if answer
        .heads
        .values()
        .any(|head| head.before.as_str().len().max(head.after.as_str().len()) > Cursor::MAX_BYTES)
    {
        return Err(format!("a cursor is longer than {} bytes", Cursor::MAX_BYTES));
    }
    let mut answered = Answered::default();
    answered.batch.expected.generation = Some(state.generation);
    let results = || sent.iter().zip(&answer.results);
    let is_split = |(entry, result): &(&Entry, &PushResult)| {
        !unknown_of(entry, result).is_empty() && attempts(sent, entry) >= rules.max_retries.min(2)
    };
    let split: BTreeSet<Counter> = results().filter(is_split).map(|(entry, _)| unit(entry)).collect();
    let mut refusals = BTreeMap::new();
    for (entry, result) in results() {
        if split.contains(&unit(entry))
            && let Some((op, outcome)) = set_aside(entry, result, rules.now)
        {
            answered.batch.ops.push(op);
            answered.outcomes.push(outcome);
            continue;
        }
        let outcome = read_result(entry, result, || match entry.transaction {
            None => refusal([entry], rules, &mut random),
            // It comes again as a whole, or not at all.
            Some(transaction) => *refusals.entry(transaction).or_insert_with(|| {
                let members = sent.iter().filter(|other| other.transaction == entry.transaction);
                refusal(members, rules, &mut random)
            }),
        });
        answered.batch.ops.push(op_for(entry, result, &outcome, rules));
        if let EntryOutcome::Conflict { key } = &outcome {
            answered.pull.insert(key.table.clone());
        }
        if is_undeclared(result) {
            // It was told once, if it was: the next attempt tells it again.
            answered.batch.ops.push(Op::Undeclared { table: entry.key.table.clone() });
        }
        answered.outcomes.push(outcome);
    }
    // Also of tables with a conflict: what else was applied there has been seen, and may be lost before the pull.
    for (table, moved) in &answer.heads {
        let (from, to) = (moved.before.clone(), moved.after.clone());
        answered.batch.ops.push(Op::Skip { table: table.clone(), from, to });
    }
    Ok(answered)
}

/// What an entry takes effect with: its transaction, or it alone.
fn unit(entry: &Entry) -> Counter {
    entry.transaction.unwrap_or(entry.counter)
}

/// How often an entry, or one of its transaction, was refused, with this time.
fn attempts(sent: &[Entry], entry: &Entry) -> u32 {
    let members = sent.iter().filter(|other| unit(other) == unit(entry));
    members.map(|member| member.attempts).max().unwrap_or(0).saturating_add(1)
}

/// When entries are sent again that were refused together; `None`: never.
fn refusal<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    rules: &RetryRules,
    random: &mut impl FnMut() -> u64,
) -> Option<Millis> {
    let before = entries.into_iter().map(|entry| entry.attempts).max().unwrap_or(0);
    let attempts = before.saturating_add(1);
    if attempts >= rules.max_retries {
        return None;
    }
    let pause = rules.backoff.pause(attempts, random()).as_millis();
    Some(rules.now.saturating_add(Millis::try_from(pause).unwrap_or(Millis::MAX)))
}

fn read_result(entry: &Entry, result: &PushResult, refusal: impl FnOnce() -> Option<Millis>) -> EntryOutcome {
    let key = entry.key.clone();
    match result {
        PushResult::Applied { seq, .. } | PushResult::Duplicate { seq, .. } => {
            EntryOutcome::Pushed { key, seq: *seq }
        }
        PushResult::Conflict { .. } => EntryOutcome::Conflict { key },
        PushResult::Rejected { code, message, .. } => {
            let (entry, code, message) = (entry.clone(), code.as_str().to_owned(), message.clone());
            match refusal() {
                None => EntryOutcome::Dead { entry, code, message },
                Some(retry_at) => EntryOutcome::Retry { entry, retry_at, code, message },
            }
        }
    }
}

/// Whether the server lacks what a declaration gives it.
fn is_undeclared(result: &PushResult) -> bool {
    match result {
        PushResult::Rejected { code: RejectCode::UnknownTable, .. } => true,
        PushResult::Rejected { code: RejectCode::UnknownColumn, unknown_fields, .. } => {
            unknown_fields.is_empty()
        }
        _ => false,
    }
}

/// The fields of an entry that the server's table is said to have no column for.
fn unknown_of(entry: &Entry, result: &PushResult) -> BTreeSet<String> {
    let PushResult::Rejected { code: RejectCode::UnknownColumn, unknown_fields, .. } = result else {
        return BTreeSet::new();
    };
    let is_set = |field: &&String| entry.edit.fields().is_some_and(|fields| fields.contains_key(*field));
    unknown_fields.iter().filter(is_set).cloned().collect()
}

/// What both sides know goes on without the fields that the server has no column for. The others of a transaction come again as they are.
/// `at` is now.
fn set_aside(entry: &Entry, result: &PushResult, at: Millis) -> Option<(Op, EntryOutcome)> {
    let PushResult::Rejected { code, message, .. } = result else { return None };
    let (fields, message) = (unknown_of(entry, result), message.clone());
    let mut entry = entry.clone();
    let (key, counter) = (entry.key.clone(), entry.counter);
    let taken = entry.edit.take(&fields);
    let op = Op::SetAside { key, counter, fields, message: message.clone(), at };
    let outcome = if taken.is_empty() {
        EntryOutcome::Retry { entry, retry_at: at, code: code.as_str().to_owned(), message }
    } else {
        let code = DeadLetter::SET_ASIDE.to_owned();
        EntryOutcome::Dead { entry: Entry { edit: Edit::Patch(taken), ..entry }, code, message }
    };
    Some((op, outcome))
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
                // What the server says of a table that it does not have says nothing about the record.
                PushResult::Rejected { code: RejectCode::UnknownTable, .. } => Revert::ToBase,
                PushResult::Rejected { current: Some(current), .. } => Revert::To(current.record.clone()),
                _ => Revert::ToBase,
            };
            Op::Bury { key, counter, code: code.clone(), message: message.clone(), at: rules.now, revert }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        entry::{Edit, Operation},
        ids::{Counter, ReplicaId},
        record::{Fields, fields},
        replica::{Phase, TablePolicy, TableState},
        table::TableSpec,
        wire::{Current, HeadMove, RejectCode},
    };

    fn cursor(token: &str) -> Option<Cursor> {
        Some(Cursor::new(token))
    }

    fn name(table: &str) -> TableName {
        table.parse().unwrap()
    }

    fn state(at: Option<Cursor>) -> State {
        let table = TableState {
            spec: TableSpec::document(name("t")),
            policy: TablePolicy { sensitive_fields: vec!["ssn".into()], ..TablePolicy::default() },
            cursor: at,
            phase: Phase::Following,
            declared: true,
            synced_at: None,
            ahead: None,
            gained: BTreeSet::new(),
        };
        State {
            replica: ReplicaId::from_random([1; 16]),
            generation: 3,
            server: None,
            clock: 0,
            last_counter: 99,
            last_sent: 0,
            schema: 0,
            tables: vec![table],
            pending: 0,
            dead_letters: 0,
            conflicts: 0,
            quarantined: 0,
        }
    }

    fn object(value: &Value) -> Fields {
        value.as_object().unwrap().clone()
    }

    fn upsert(value: &Value) -> Edit {
        Edit::Upsert(object(value))
    }

    fn patch(value: &Value) -> Edit {
        Edit::Patch(object(value))
    }

    fn entry(counter: Counter, id: &str, edit: Edit) -> Entry {
        let key = RecordKey::new("t", id).unwrap();
        Entry {
            counter,
            key,
            edit,
            at: 10 * counter as Millis,
            sent: None,
            attempts: 0,
            retry_at: None,
            transaction: None,
        }
    }

    fn sent(entry: Entry) -> Entry {
        Entry { sent: Some(Sent { base: cursor("then") }), ..entry }
    }

    #[test]
    fn a_group_is_sent_as_one_entry_under_the_number_of_its_last() {
        let (a, b) = (json!({"a": 1, "b": 1}), json!({"b": 2}));
        let both = json!({"a": 1, "b": 2});
        for (edits, expected) in [
            (vec![upsert(&a)], upsert(&a)),
            (vec![upsert(&a), patch(&b)], upsert(&both)),
            (vec![patch(&a), patch(&b)], patch(&both)),
            (vec![patch(&a), upsert(&b)], upsert(&both)),
            (vec![upsert(&a), patch(&b), Edit::Delete], Edit::Delete),
            (vec![Edit::Delete, upsert(&a), patch(&b)], Edit::Replace(object(&both))),
            (vec![upsert(&a), Edit::Replace(object(&b))], Edit::Replace(object(&b))),
        ] {
            let group: Vec<Entry> =
                (1..).zip(&edits).map(|(counter, edit)| entry(counter, "x", edit.clone())).collect();
            let last = group.len() as Counter;
            let prepared = prepare(&state(cursor("now")), vec![group]);
            let [one] = &prepared.entries[..] else { panic!("{prepared:?}") };
            assert_eq!((&one.edit, one.counter, one.at), (&expected, last, 10 * last as Millis), "{edits:?}");
            assert_eq!(prepared.batch.ops, [Op::Freeze(one.clone())]);
            assert_eq!(prepared.request.entries[0].edit(), expected);
            assert_eq!(prepared.request.entries[0].counter, last);
        }
    }

    #[test]
    fn the_newest_time_of_a_group_is_sent_whatever_its_order() {
        let late = Entry { at: 500, ..entry(1, "x", upsert(&json!({}))) };
        let prepared = prepare(&state(None), vec![vec![late, entry(2, "x", patch(&json!({})))]]);
        assert_eq!((prepared.entries[0].at, prepared.request.entries[0].at), (500, 500));
    }

    #[test]
    fn an_entry_is_frozen_with_the_tables_cursor_once() {
        for at in [None, cursor("now")] {
            let group = vec![entry(1, "x", upsert(&json!({})))];
            let prepared = prepare(&state(at.clone()), vec![group]);
            assert_eq!(prepared.entries[0].sent, Some(Sent { base: at.clone() }));
            assert_eq!(prepared.request.entries[0].base, at);
        }
        let before = sent(entry(1, "x", upsert(&json!({}))));
        let prepared = prepare(&state(cursor("now")), vec![vec![before.clone()]]);
        assert_eq!(
            (&prepared.batch.ops[..], &prepared.entries[..]),
            (&[][..], &[before][..]),
            "it is marked already"
        );
        assert_eq!(prepared.request.entries[0].base, cursor("then"));
    }

    #[test]
    fn a_request_says_how_far_the_tables_were_seen() {
        let name: TableName = "t".parse().unwrap();
        for (at, ahead, seen) in [
            (None, None, None),
            (cursor("now"), None, cursor("now")),
            (cursor("now"), cursor("own push"), cursor("own push")),
        ] {
            let mut state = state(at);
            state.tables[0].ahead = ahead;
            // Sent before, on top of less.
            let repeated = sent(entry(1, "x", upsert(&json!({}))));
            let prepared = prepare(&state, vec![vec![repeated]]);
            assert_eq!(prepared.request.seen, seen.map(|seen| (name.clone(), seen)).into_iter().collect());
        }
    }

    #[test]
    fn the_attempts_of_the_refused_entry_go_on_counting() {
        let refused = Entry { attempts: 2, retry_at: Some(7), ..entry(1, "x", upsert(&json!({}))) };
        let prepared = prepare(&state(None), vec![vec![refused, entry(2, "x", patch(&json!({})))]]);
        assert_eq!(prepared.entries[0].attempts, 2);
    }

    #[test]
    fn a_request_keeps_the_order_of_the_groups_and_passes_over_empty_ones() {
        let groups = vec![
            vec![entry(2, "b", Edit::Delete)],
            vec![],
            vec![entry(1, "a", upsert(&json!({}))), entry(9, "a", Edit::Delete)],
        ];
        let prepared = prepare(&state(None), groups);
        let order: Vec<_> =
            prepared.request.entries.iter().map(|entry| (entry.id.as_str(), entry.counter)).collect();
        assert_eq!(order, [("b", 2), ("a", 9)]);
        assert_eq!(prepared.request.replica, state(None).replica);
        assert_eq!(prepared.batch.expected, Expected { generation: Some(3), ..Expected::default() });
        assert_eq!(
            (prepared.request.entries[0].op, &prepared.request.entries[0].data),
            (Operation::Delete, &None)
        );
    }

    #[test]
    fn sensitive_fields_are_masked_before_an_entry_is_frozen_or_sent() {
        let secret = upsert(&json!({"ssn": "123", "deep": [{"SSN": 1}], "city": "Ulm"}));
        let masked = object(&json!({"ssn": "[REDACTED]", "deep": [{"SSN": "[REDACTED]"}], "city": "Ulm"}));
        for group in [entry(1, "x", secret.clone()), sent(entry(1, "x", secret.clone()))] {
            let prepared = prepare(&state(None), vec![vec![group]]);
            assert_eq!(prepared.request.entries[0].data, Some(masked.clone()));
            assert_eq!(
                prepared.entries[0].edit,
                Edit::Upsert(masked.clone()),
                "it is repeated as it was sent"
            );
        }
    }

    fn rules(keep_refused: bool) -> RetryRules {
        let backoff = Backoff { exponential: true, cap: Duration::from_secs(60) };
        RetryRules { max_retries: 3, backoff, keep_refused, now: 1000 }
    }

    fn answer_to(entries: &[Entry], results: Vec<PushResult>, keep_refused: bool) -> Answered {
        let answered = PushAnswer { results, heads: [].into() };
        answer(&state(None), entries, &answered, &rules(keep_refused), || u64::MAX).unwrap()
    }

    fn rejected(current: Option<Current>) -> PushResult {
        let refusal = PushResult::rejected(RejectCode::Constraint, "no");
        current.into_iter().fold(refusal, PushResult::showing)
    }

    #[test]
    fn an_applied_entry_is_settled_with_the_servers_form() {
        let one = sent(entry(5, "x", upsert(&json!({}))));
        for record in [None, Some(fields([("a", 1.into())]))] {
            let (applied, repeated) = (record.clone(), record.clone());
            for result in [
                PushResult::Applied { seq: 8, record: applied },
                PushResult::Duplicate { seq: 8, record: repeated },
            ] {
                let answered = answer_to(std::slice::from_ref(&one), vec![result], false);
                let key = one.key.clone();
                assert_eq!(
                    answered.batch.ops,
                    [Op::Settle { key: key.clone(), counter: 5, record: record.clone() }]
                );
                assert_eq!(answered.outcomes, [EntryOutcome::Pushed { key, seq: 8 }]);
                assert_eq!(answered.batch.expected, Expected { generation: Some(3), ..Expected::default() });
                assert!(answered.pull.is_empty());
            }
        }
    }

    #[test]
    fn a_conflict_thaws_the_entry_and_asks_for_a_pull() {
        let one = sent(Entry { attempts: 2, ..entry(5, "x", upsert(&json!({}))) });
        let answered = answer_to(std::slice::from_ref(&one), vec![PushResult::Conflict { seq: 8 }], false);
        assert_eq!(answered.batch.ops, [Op::Thaw { key: one.key.clone(), counter: 5 }]);
        assert_eq!(answered.outcomes, [EntryOutcome::Conflict { key: one.key }]);
        assert_eq!(answered.pull, [name("t")].into());
    }

    #[test]
    fn a_refused_entry_waits_longer_each_time_and_then_dies() {
        for (attempts, pause) in [(0, Some(2000)), (1, Some(4000)), (2, None), (3, None), (u32::MAX, None)] {
            let one = sent(Entry { attempts, ..entry(5, "x", upsert(&json!({}))) });
            let answered = answer_to(std::slice::from_ref(&one), vec![rejected(None)], false);
            let (key, code, message) = (one.key.clone(), "constraint".to_owned(), "no".to_owned());
            let (op, outcome) = match pause {
                Some(pause) => {
                    let retry_at = 1000 + pause;
                    (
                        Op::Postpone { key, counter: 5, retry_at },
                        EntryOutcome::Retry { entry: one, retry_at, code, message },
                    )
                }
                None => {
                    let (revert, at) = (Revert::ToBase, 1000);
                    let (why, words) = (code.clone(), message.clone());
                    (
                        Op::Bury { key, counter: 5, code: why, message: words, at, revert },
                        EntryOutcome::Dead { entry: one, code, message },
                    )
                }
            };
            assert_eq!(
                (answered.batch.ops, answered.outcomes),
                (vec![op], vec![outcome]),
                "{attempts} attempts"
            );
            assert!(answered.pull.is_empty());
        }
    }

    #[test]
    fn a_refused_transaction_waits_for_one_time_and_dies_as_one() {
        let part = |counter, id, attempts| {
            sent(Entry { attempts, transaction: Some(5), ..entry(counter, id, Edit::Delete) })
        };
        let entries = [part(5, "x", 0), part(6, "y", 1), sent(entry(7, "z", Edit::Delete))];
        let results = vec![rejected(None), rejected(None), rejected(None)];
        let answered = answer_to(&entries, results.clone(), false);
        let times: Vec<Option<Millis>> = answered
            .outcomes
            .iter()
            .map(|outcome| match outcome {
                EntryOutcome::Retry { retry_at, .. } => Some(*retry_at),
                _ => None,
            })
            .collect();
        assert_eq!(times, [Some(5000), Some(5000), Some(3000)], "as long as the one that was refused most");
        let entries = [part(5, "x", 0), part(6, "y", 2), sent(entry(7, "z", Edit::Delete))];
        let answered = answer_to(&entries, results, false);
        let dead: Vec<bool> =
            answered.outcomes.iter().map(|outcome| matches!(outcome, EntryOutcome::Dead { .. })).collect();
        assert_eq!(dead, [true, true, false]);
    }

    #[test]
    fn the_row_of_a_dead_entry_follows_what_the_server_said() {
        let theirs = Some(fields([("a", 7.into())]));
        for (current, keep, expected) in [
            (None, false, Revert::ToBase),
            (Some(Current { record: None }), false, Revert::To(None)),
            (Some(Current { record: theirs.clone() }), false, Revert::To(theirs.clone())),
            (None, true, Revert::Keep),
            (Some(Current { record: theirs }), true, Revert::Keep),
        ] {
            let one = sent(Entry { attempts: 2, ..entry(5, "x", upsert(&json!({}))) });
            let answered = answer_to(&[one], vec![rejected(current)], keep);
            assert!(
                matches!(&answered.batch.ops[..], [Op::Bury { revert, .. }] if *revert == expected),
                "{expected:?}"
            );
        }
    }

    #[test]
    fn a_table_that_the_server_does_not_have_is_told_again_and_says_nothing_of_the_record() {
        let unknown = PushResult::rejected(RejectCode::UnknownTable, "no").showing(Current { record: None });
        for (attempts, buried) in [(0, false), (2, true)] {
            let one = sent(Entry { attempts, ..entry(5, "x", upsert(&json!({}))) });
            let answered = answer_to(&[one], vec![unknown.clone()], false);
            let [op, Op::Undeclared { table }] = &answered.batch.ops[..] else {
                panic!("{:?}", answered.batch.ops)
            };
            assert_eq!(*table, name("t"));
            assert_eq!(matches!(op, Op::Bury { revert: Revert::ToBase, .. }), buried, "{op:?}");
            assert_eq!(matches!(op, Op::Postpone { .. }), !buried, "{op:?}");
        }
    }

    fn unknown(fields: &[&str]) -> PushResult {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        PushResult::rejected(RejectCode::UnknownColumn, "no").naming(fields)
    }

    #[test]
    fn fields_that_the_server_still_does_not_know_are_set_aside() {
        let one = |attempts, edit| sent(Entry { attempts, ..entry(5, "x", edit) });
        let edit = || patch(&json!({"a": 1, "b": 1}));
        for (attempts, unknown, expected) in [
            // It may just have been given the column, or lost the declaration.
            (0, unknown(&["b"]), None),
            (1, unknown(&["b"]), Some(json!({"b": 1}))),
            (2, unknown(&["b", "z"]), Some(json!({"b": 1}))),
            (2, unknown(&["a", "b"]), Some(json!({"a": 1, "b": 1}))),
            (1, unknown(&["z"]), None),
            (1, unknown(&[]), None),
        ] {
            let answered = answer_to(&[one(attempts, edit())], vec![unknown], false);
            let Some(op) = answered.batch.ops.first() else { panic!("no step") };
            match expected {
                None => assert!(matches!(op, Op::Postpone { .. }), "{op:?}"),
                Some(aside) => {
                    let fields: Vec<String> = object(&aside).keys().cloned().collect();
                    let Op::SetAside { counter: 5, fields: taken, at: 1000, .. } = op else {
                        panic!("{op:?}")
                    };
                    assert!(taken.iter().eq(&fields), "{taken:?}");
                    let [EntryOutcome::Dead { entry, .. }] = &answered.outcomes[..] else { panic!() };
                    assert_eq!(entry.edit, patch(&aside));
                }
            }
        }
        let answered = answer_to(&[one(2, Edit::Delete)], vec![unknown(&["a"])], false);
        assert!(matches!(&answered.batch.ops[..], [Op::Bury { .. }]), "it names none");
    }

    #[test]
    fn a_transaction_comes_again_without_the_fields_that_one_of_it_names() {
        let part = |counter, id, attempts| {
            let edit = patch(&json!({"a": 1, "b": 1}));
            sent(Entry { attempts, transaction: Some(5), ..entry(counter, id, edit) })
        };
        let other = sent(entry(7, "z", patch(&json!({"b": 1}))));
        let beside = PushResult::rejected(RejectCode::Transaction, "no");
        for (attempts, splits) in [(0, false), (1, true)] {
            let entries = [part(5, "x", attempts), part(6, "y", 0), other.clone()];
            let results = vec![beside.clone(), unknown(&["b"]), unknown(&["b"])];
            let ops = answer_to(&entries, results, false).batch.ops;
            let [x, y, Op::Postpone { .. }] = &ops[..] else { panic!("{ops:?}") };
            let taken = |op: &Op| match op {
                Op::SetAside { fields, .. } => Some(fields.len()),
                _ => None,
            };
            assert_eq!((taken(x), taken(y)), if splits { (Some(0), Some(1)) } else { (None, None) });
        }
    }

    #[test]
    fn columns_that_the_server_does_not_know_any_more_are_told_again() {
        let one = sent(entry(5, "x", patch(&json!({"a": 1}))));
        let ops = answer_to(std::slice::from_ref(&one), vec![unknown(&[])], false).batch.ops;
        assert!(matches!(&ops[..], [Op::Postpone { .. }, Op::Undeclared { .. }]), "{ops:?}");
        let ops = answer_to(&[one], vec![unknown(&["a"])], false).batch.ops;
        assert!(matches!(&ops[..], [Op::Postpone { .. }]), "no declaration helps: {ops:?}");
    }

    #[test]
    fn results_belong_to_entries_in_their_order() {
        let entries: Vec<Entry> =
            [("a", 1), ("b", 2), ("c", 3)].map(|(id, counter)| sent(entry(counter, id, Edit::Delete))).into();
        let results = vec![
            rejected(None),
            PushResult::Conflict { seq: 4 },
            PushResult::Applied { seq: 5, record: None },
        ];
        let answered = answer_to(&entries, results, false);
        let ops = &answered.batch.ops[..];
        let [Op::Postpone { key: a, .. }, Op::Thaw { key: b, .. }, Op::Settle { key: c, .. }] = ops else {
            panic!("{ops:?}")
        };
        assert_eq!([a, b, c].map(|key| key.id.as_str()), ["a", "b", "c"]);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_refused() {
        let entries = [sent(entry(1, "x", Edit::Delete))];
        let applied = || PushResult::Applied { seq: 1, record: None };
        let long = "x".repeat(Cursor::MAX_BYTES + 1);
        let moved = |before: &str, after: &str| {
            [(name("t"), HeadMove { before: Cursor::new(before), after: Cursor::new(after) })].into()
        };
        for (results, heads, fits) in [
            (vec![], [].into(), false),
            (vec![applied(), applied()], [].into(), false),
            (vec![applied()], moved(&long, "a"), false),
            (vec![applied()], moved("a", &long), false),
            (vec![applied()], moved("a", &long[1..]), true),
        ] {
            let answered = PushAnswer { results, heads };
            let read = answer(&state(None), &entries, &answered, &rules(false), || 0);
            assert_eq!(read.is_ok(), fits, "{read:?}");
        }
        assert!(
            answer(&state(None), &[], &PushAnswer { results: vec![], heads: [].into() }, &rules(false), || 0)
                .is_ok()
        );
    }

    #[test]
    fn the_heads_that_an_answer_tells_are_seen_whatever_became_of_the_entries() {
        let elsewhere = Entry { key: RecordKey::new("u", "x").unwrap(), ..entry(2, "x", Edit::Delete) };
        let entries = [sent(entry(1, "x", Edit::Delete)), sent(elsewhere)];
        let moved = |after: &str| HeadMove { before: Cursor::new("0"), after: Cursor::new(after) };
        let heads = [(name("t"), moved("1")), (name("u"), moved("2"))];
        let skip = |table: &str, to: &str| Op::Skip {
            table: name(table),
            from: Cursor::new("0"),
            to: Cursor::new(to),
        };
        let applied = PushResult::Applied { seq: 1, record: None };
        for (results, expected) in [
            (vec![applied.clone(), applied.clone()], vec![skip("t", "1"), skip("u", "2")]),
            (vec![applied.clone(), rejected(None)], vec![skip("t", "1"), skip("u", "2")]),
            (vec![PushResult::Conflict { seq: 1 }, applied], vec![skip("t", "1"), skip("u", "2")]),
        ] {
            let answered = PushAnswer { results, heads: heads.clone().into() };
            let ops = answer(&state(None), &entries, &answered, &rules(false), || 0).unwrap().batch.ops;
            assert_eq!(ops[2..], expected, "after the entries' own steps");
        }
    }
}
