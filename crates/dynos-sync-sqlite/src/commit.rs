//! Carries out a batch.

use std::{borrow::Cow, collections::BTreeSet};

use dynos_sync_core::{
    Counter, Cursor, Edit, Entry, Fields, Invalid, Millis, RecordId, RecordKey, ReplicaError, Shape,
    TableName, plan,
    replica::{Batch, DeadLetter, Expected, Op, Outcome, Phase, Receipt, Resolved, Revert},
    sabotage::{Mutant, is_on},
};
use rusqlite::{Connection, params};

use crate::{
    collect::{self, Collected},
    columns,
    error::{Result, damaged, translate},
    letters::{self, Burial},
    listing,
    queue::{self, New},
    rows,
    session::Session,
    table::{Catalog, Table},
    transaction,
    value::Cell,
};

/// Whether a batch holds edits of this device. Those keep the application's foreign keys; what comes from the server
/// need not, since a child may arrive before its parent.
pub(crate) fn is_local(batch: &Batch) -> bool {
    batch.ops.iter().any(|op| matches!(op, Op::Write { .. } | Op::Enqueue { .. } | Op::Revive { .. }))
}

/// Whether the server is told something next that this device has to remember.
pub(crate) fn is_to_be_sent(batch: &Batch) -> bool {
    batch.ops.iter().any(|op| matches!(op, Op::Freeze(_)))
}

/// The application's tables, in lower case, of which batches may change rows; `None` where it may be any.
pub(crate) fn touched<'a>(
    catalog: &Catalog,
    batches: impl IntoIterator<Item = &'a Batch>,
) -> Option<BTreeSet<String>> {
    let mut tables = BTreeSet::new();
    for op in batches.into_iter().flat_map(|batch| &batch.ops) {
        let name = match op {
            Op::Write { key, .. }
            | Op::Store { key, .. }
            | Op::Settle { key, record: Some(_), .. }
            | Op::Fill { key, .. }
            | Op::Bury { key, .. } => &key.table,
            Op::Resolve { conflict, .. } => &conflict.key.table,
            Op::Complete { table, .. } => table,
            Op::Revive { .. } => return None,
            _ => continue,
        };
        // Its triggers, or its foreign keys, may change others.
        if catalog.named(name).is_ok_and(|table| table.reactive) {
            return None;
        }
        tables.insert(name.as_str().to_lowercase());
    }
    Some(tables)
}

/// Carries out a batch within the session's transaction. After an error or `Stale` the caller rolls back.
pub(crate) fn commit(session: &mut Session<'_>, batch: &Batch) -> Result<Outcome> {
    if !holds(session, &batch.expected)? {
        return Ok(Outcome::Stale);
    }
    let mut receipt = Receipt::default();
    session.transaction = None;
    if batch.transaction {
        session.begin_transaction();
    }
    for op in &batch.ops {
        if !apply(session, op, &mut receipt)? {
            return Ok(Outcome::Stale);
        }
    }
    session.transaction = None;
    receipt.quarantined = session.settle_refused()?;
    Ok(Outcome::Committed(receipt))
}

fn holds(session: &Session<'_>, expected: &Expected) -> Result<bool> {
    let session_ended = expected.generation.is_some_and(|generation| generation != session.header.generation);
    if session_ended && !is_on(Mutant::StaleSession) {
        return Ok(false);
    }
    if let Some((name, cursor)) = &expected.cursor {
        let Ok(table) = session.catalog.named(name) else { return Ok(false) };
        if read_cursor(session, table.n)?.as_ref() != cursor.as_ref() {
            return Ok(false);
        }
    }
    if is_on(Mutant::StaleRecord) {
        return Ok(true);
    }
    if session.header.pending == 0 {
        return Ok(expected.newest.iter().all(|(_, counter)| counter.is_none()));
    }
    for (key, counter) in &expected.newest {
        let Ok(table) = session.catalog.named(&key.table) else { return Ok(false) };
        if queue::newest(session.db, table.n, key.id.as_str())? != *counter {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Answers false where the step no longer fits what is there.
fn apply(session: &mut Session<'_>, op: &Op, receipt: &mut Receipt) -> Result<bool> {
    match op {
        Op::Write { key, edit, at } => receipt.written.push(write(session, key, edit, *at)?),
        Op::Enqueue { key, edit, at } => receipt.written.push(Some(enqueue(session, key, edit, *at)?)),
        Op::Offer { key, base, edit, at } => drop(offer(session, key, base.as_ref(), edit, *at)?),
        Op::Store { key, record } => {
            let table = session.catalog.named(&key.table)?;
            session.store(table, key, record.as_ref())?;
        }
        Op::LeaveOut { table, fields } => columns::leave_out(session, table, fields)?,
        Op::Fill { key, base, row } => columns::fill(session, key, base, row)?,
        Op::Freeze(entry) => {
            let table = session.catalog.named(&entry.key.table)?;
            return queue::freeze(session.db, &mut session.header, table.n, entry);
        }
        Op::Thaw { counter, .. } => queue::thaw(session.db, session.header.seal, *counter)?,
        Op::Settle { key, counter, record } => settle(session, key, *counter, record.as_ref())?,
        Op::Resolve { conflict, edit } => resolve(session, conflict, edit.as_ref())?,
        Op::Postpone { key, counter, retry_at } => postpone(session, key, *counter, *retry_at)?,
        Op::Bury { key, counter, code, message, at, revert } => {
            receipt.buried.extend(bury(session, key, *counter, (code, message, *at), revert)?);
        }
        Op::SetAside { key, counter, fields, message, at } => {
            receipt.buried.extend(set_aside(session, key, *counter, fields, (message, *at))?);
        }
        Op::Revive { letter, at } => revive(session, *letter, *at)?,
        Op::Discard { letter } => letters::discard(session.db, *letter)?,
        Op::Forget { conflict } => letters::forget(session.db, *conflict)?,
        Op::Prune { before } => letters::prune(session.db, *before)?,
        Op::Observe { at } => session.header.clock = session.header.clock.max(*at),
        Op::Bind { server } => session.header.server = Some(server.clone()),
        Op::Rename => rename(session)?,
        Op::Advance { table, cursor, seen } => advance(session, table, cursor, seen)?,
        Op::Skip { table, from, to } => skip(session, table, from, to)?,
        Op::Restart { table, phase, ahead } => restart(session, table, *phase, ahead.as_ref())?,
        Op::Complete { table, at, passed } => complete(session, table, *at, passed.as_ref())?,
        Op::Declared { table } => set_declared(session, table, true)?,
        Op::Undeclared { table } => set_declared(session, table, false)?,
    }
    Ok(true)
}

fn write(session: &mut Session<'_>, key: &RecordKey, edit: &Edit, at: Millis) -> Result<Option<Counter>> {
    let catalog = session.catalog;
    let table = catalog.named(&key.table)?;
    let decoded = table.key_of(&key.id)?;
    let row = rows::select(session.db, table, &decoded)?;
    table.guard(&key.id, row.as_deref())?;
    match edit {
        Edit::Patch(_) if row.is_none() => return Err(ReplicaError::NotFound(key.clone())),
        Edit::Delete if row.is_none() => return Ok(None),
        _ => {}
    }
    let at = session.stamp(at);
    let place = Place { table, key, decoded: &decoded, row: row.as_deref() };
    if table.reactive {
        return write_captured(session, &place, edit, at).map(Some);
    }
    session.set_capture(false)?;
    let stored = rows::apply(session.db, table, key, &decoded, row.as_deref(), edit)?;
    if is_on(Mutant::RowQueueSplit) {
        session.db.execute_batch("COMMIT; BEGIN IMMEDIATE").map_err(translate)?;
    }
    append(session, &place, &stored, at).map(Some)
}

/// A record that is being edited.
struct Place<'a> {
    table: &'a Table,
    key: &'a RecordKey,
    decoded: &'a [Cell],
    /// The row before the edit.
    row: Option<&'a [Cell]>,
}

/// A write to a table whose changes may cause others: the triggers note them all, and the edit itself is joined with
/// what was noted about its record.
fn write_captured(session: &mut Session<'_>, place: &Place<'_>, edit: &Edit, at: Millis) -> Result<Counter> {
    let Place { table, key, decoded, row } = *place;
    session.set_capture(true)?;
    let stored = rows::apply(session.db, table, key, decoded, row, edit)?;
    let noted =
        collect::collect(session)?.into_iter().find(|noted| noted.table == table.n && noted.id == key.id);
    let Some(Collected { counter, edit: noted, .. }) = noted else {
        return append(session, place, &stored, at);
    };
    let joined = match (noted, stored.into_owned()) {
        (Edit::Delete, _) | (_, Edit::Delete) => Edit::Delete,
        (noted, stored) => {
            let mut fields: Fields = noted.into_fields();
            let operation = stored.operation();
            fields.extend(stored.into_fields());
            Edit::new(operation, fields)
        }
    };
    let new = New { id: &key.id, edit: &joined, at, first: None, transaction: session.transaction };
    queue::amend(session.db, session.header.seal, (table.n, counter), &new)?;
    session.header.clock = session.header.clock.max(at);
    Ok(counter)
}

fn append(session: &mut Session<'_>, place: &Place<'_>, edit: &Edit, at: Millis) -> Result<Counter> {
    let Place { table, key, row, .. } = place;
    let first = session.header.pending == 0 || queue::newest(session.db, table.n, key.id.as_str())?.is_none();
    let base = if first { row.map(|row| rows::record(table, row)).transpose()? } else { None };
    // (A row that was not there before is nobody's.)
    let edit = match first && row.is_some() {
        true => whole_if_local(session, table, key, edit)?,
        false => Cow::Borrowed(edit),
    };
    let transaction = session.transaction;
    let new = New { id: &key.id, edit: &edit, at, first: first.then_some(base.as_ref()), transaction };
    queue::append(session.db, &mut session.header, table, &new)
}

/// The first edit of a row that the server was never offered offers it whole: there is nothing yet that a patch could apply to.
pub(crate) fn whole_if_local<'a>(
    session: &mut Session<'_>,
    table: &Table,
    key: &RecordKey,
    edit: &'a Edit,
) -> Result<Cow<'a, Edit>> {
    if !matches!(edit, Edit::Patch(_) | Edit::Upsert(_)) || !session.is_local(table.n, &key.id)? {
        return Ok(Cow::Borrowed(edit));
    }
    Ok(rows::get(session.db, table, &key.id)?.map_or(Cow::Borrowed(edit), |row| Cow::Owned(table.whole(row))))
}

fn enqueue(session: &mut Session<'_>, key: &RecordKey, edit: &Edit, at: Millis) -> Result<Counter> {
    let table = session.catalog.named(&key.table)?;
    let decoded = table.key_of(&key.id)?;
    let prepared = match edit.fields() {
        Some(fields) if !table.document => {
            let fields = rows::prepare(table, &decoded, fields)?.fields.into_owned();
            Cow::Owned(Edit::new(edit.operation(), fields))
        }
        _ => Cow::Borrowed(edit),
    };
    let row = rows::select(session.db, table, &decoded)?;
    table.guard(&key.id, row.as_deref())?;
    let at = session.stamp(at);
    append(session, &Place { table, key, decoded: &decoded, row: row.as_deref() }, &prepared, at)
}

fn offer(
    session: &mut Session<'_>,
    key: &RecordKey,
    base: Option<&Fields>,
    edit: &Edit,
    at: Millis,
) -> Result<Counter> {
    let table = session.catalog.named(&key.table)?;
    let gone = queue::take(session.db, &mut session.header, session.catalog, table.n, &key.id)?;
    let transaction = transaction::join(session.db, session.header.seal, &gone)?.or(session.transaction);
    let new = New { id: &key.id, edit, at, first: Some(base), transaction };
    queue::append(session.db, &mut session.header, table, &new)
}

fn settle(
    session: &mut Session<'_>,
    key: &RecordKey,
    counter: Counter,
    record: Option<&Fields>,
) -> Result<()> {
    let table = session.catalog.named(&key.table)?;
    let id = key.id.as_str();
    let holding = queue::holding(session.db, table.n, id, counter)?;
    if !holding.entry {
        return Ok(());
    }
    // The server has it, whatever the pages that were read before say.
    session.release(table.n, &key.id)?;
    note_seen(session, table.n, std::slice::from_ref(&key.id))?;
    if holding.others {
        let Some(entry) = queue::entry(session.db, session.catalog, table.n, id, counter)? else {
            return Ok(());
        };
        queue::remove(session.db, &mut session.header, table.n, &key.id, counter)?;
        let after = match record {
            Some(record) => Some(record.clone()),
            None => entry.edit.apply(queue::base(session.db, session.header.seal, table.n, id)?),
        };
        return queue::set_base(session.db, session.header.seal, table.n, &key.id, after.as_ref());
    }
    queue::remove_last(session.db, &mut session.header, table.n, &key.id, counter, holding.base)?;
    match record {
        Some(record) => session.store(table, key, Some(record)),
        None => Ok(()),
    }
}

fn resolve(session: &mut Session<'_>, resolved: &Resolved, edit: Option<&Edit>) -> Result<()> {
    let catalog = session.catalog;
    let table = catalog.named(&resolved.key.table)?;
    let gone = queue::take(session.db, &mut session.header, catalog, table.n, &resolved.key.id)?;
    session.put_back(table, &resolved.key, resolved.outcome.as_ref())?;
    if let Some(edit) = edit {
        let first = Some(resolved.theirs.as_ref());
        let transaction = transaction::join(session.db, session.header.seal, &gone)?;
        let new = New { id: &resolved.key.id, edit, at: resolved.at, first, transaction };
        queue::append(session.db, &mut session.header, table, &new)?;
    }
    letters::journal(session.db, session.header.seal, table.n, resolved)
}

fn postpone(session: &mut Session<'_>, key: &RecordKey, counter: Counter, retry_at: Millis) -> Result<()> {
    let table = session.catalog.named(&key.table)?;
    let entry = queue::entry(session.db, session.catalog, table.n, key.id.as_str(), counter)?;
    let Some(entry) = entry else { return Ok(()) };
    let tried = Some((entry.attempts.saturating_add(1), retry_at));
    queue::renumber(session.db, &mut session.header, key, table.n, tried)
}

fn bury(
    session: &mut Session<'_>,
    key: &RecordKey,
    counter: Counter,
    (code, message, at): (&str, &str, Millis),
    revert: &Revert,
) -> Result<Option<i64>> {
    let catalog = session.catalog;
    let table = catalog.named(&key.table)?;
    let mut entries = queue::of_record(session.db, catalog, table.n, key.id.as_str())?;
    if entries.iter().all(|entry| entry.counter != counter) {
        return Ok(None);
    }
    // That the server has no such record says nothing of one that it was never offered before.
    let is_local = session.is_local(table.n, &key.id)?;
    let before = queue::base(session.db, session.header.seal, table.n, key.id.as_str())?;
    let base = match revert {
        Revert::To(record) if record.is_some() || !is_local => {
            record.clone().map(|record| plan::pull::complete(&table.spec.shape, before.as_ref(), record))
        }
        _ => before,
    };
    let mut rest = entries.split_off(Entry::given_up(&entries));
    let keep = *revert == Revert::Keep;
    let is_lost = base.is_none() && !keep;
    if !rest.is_empty() {
        queue::take_first(session.db, &mut session.header, table.n, &key.id, &entries, base.as_ref())?;
        make_again(session, key, &mut rest, base, keep)?;
    } else {
        queue::take(session.db, &mut session.header, catalog, table.n, &key.id)?;
        if !keep {
            session.put_back(table, key, base.as_ref())?;
        }
        if keep || is_local {
            session.keep_local(table.n, &key.id)?;
        }
    }
    let transaction = entries.first().and_then(|entry| entry.transaction);
    let mut edits: Vec<(Edit, Millis)> = entries.into_iter().map(|entry| (entry.edit, entry.at)).collect();
    if is_lost {
        let aside = letters::take_set_aside(session.db, catalog, table.n, key.id.as_str())?;
        DeadLetter::take_in(aside, &mut edits);
    }
    let burial = Burial { n: table.n, id: key.id.as_str(), edits: &edits, code, message, at, transaction };
    letters::bury(session.db, session.header.seal, &burial).map(Some)
}

fn set_aside(
    session: &mut Session<'_>,
    key: &RecordKey,
    counter: Counter,
    fields: &BTreeSet<String>,
    (message, at): (&str, Millis),
) -> Result<Option<i64>> {
    let catalog = session.catalog;
    let table = catalog.named(&key.table)?;
    if !queue::holding(session.db, table.n, key.id.as_str(), counter)?.entry {
        return Ok(None);
    }
    let mut base = queue::base(session.db, session.header.seal, table.n, key.id.as_str())?;
    let entries = queue::take(session.db, &mut session.header, catalog, table.n, &key.id)?;
    let transaction = entries.first().and_then(|entry| entry.transaction);
    let (rest, edits) = Entry::set_aside(entries, fields);
    if let (Some(base), Shape::Columns { .. }) = (&mut base, &table.spec.shape) {
        base.extend(edits.iter().flat_map(|(edit, _)| edit.fields().cloned().unwrap_or_default()));
    }
    for (place, Entry { edit, at, transaction, .. }) in rest.iter().enumerate() {
        let first = (place == 0).then_some(base.as_ref());
        let new = New { id: &key.id, edit, at: *at, first, transaction: *transaction };
        queue::append(session.db, &mut session.header, table, &new)?;
    }
    if edits.is_empty() {
        return Ok(None);
    }
    let (id, code) = (key.id.as_str(), DeadLetter::SET_ASIDE);
    let burial = Burial { n: table.n, id, edits: &edits, code, message, at, transaction };
    letters::bury(session.db, session.header.seal, &burial).map(Some)
}

/// Makes what stays of a record's edits again, on top of another version of it.
fn make_again(
    session: &mut Session<'_>,
    key: &RecordKey,
    rest: &mut [Entry],
    base: Option<Fields>,
    keep: bool,
) -> Result<()> {
    let table = session.catalog.named(&key.table)?;
    let is_gone = base.is_none();
    let row = Entry::make_again(rest, base);
    if let (true, Some(first)) = (is_gone, rest.first()) {
        let mut edit = first.edit.clone();
        if !keep {
            // A column that nothing sets is not to stay as it was given up, and what creates a row names all columns.
            session.store(table, key, None)?;
            session.store(table, key, first.edit.fields())?;
            if let (Edit::Upsert(fields), Some(row)) = (&mut edit, rows::get(session.db, table, &key.id)?) {
                *fields = row;
            }
        }
        let new = New { id: &key.id, edit: &edit, at: first.at, first: None, transaction: first.transaction };
        queue::amend(session.db, session.header.seal, (table.n, first.counter), &new)?;
    }
    if keep { Ok(()) } else { session.put_back(table, key, row.as_ref()) }
}

fn revive(session: &mut Session<'_>, letter: i64, at: Millis) -> Result<()> {
    let catalog = session.catalog;
    let letters = letters::take(session.db, catalog, letter)?;
    if letters.is_empty() {
        return Err(Invalid::new("letter", "there is no such dead letter")
            .remedy("list the dead letters")
            .into());
    }
    if letters.iter().any(|letter| letter.transaction.is_some()) {
        session.begin_transaction();
    }
    for letter in letters {
        revive_edits(session, letter, at)?;
    }
    session.transaction = None;
    Ok(())
}

fn revive_edits(session: &mut Session<'_>, letter: DeadLetter, at: Millis) -> Result<()> {
    let (table, key) = (session.catalog.named(&letter.key.table)?, letter.key.clone());
    let row = rows::get(session.db, table, &key.id)?;
    for edit in letter.into_edits(row.as_ref()) {
        let gone = rows::get(session.db, table, &key.id)?.is_none();
        let edit = match edit {
            Edit::Patch(fields) if gone => Edit::Upsert(fields),
            edit => edit,
        };
        if edit == Edit::Delete && gone {
            let at = session.stamp(at);
            offer(session, &key, None, &edit, at)?;
        } else {
            write(session, &key, &edit, at)?;
        }
    }
    Ok(())
}

/// Takes a new identity. What was sent under the old one may be sent again.
pub(crate) fn rename(session: &mut Session<'_>) -> Result<()> {
    session.header.replica = session.random.replica_id()?;
    session.header.last_sent = 0;
    queue::thaw_sent(session.db, session.header.seal)
}

fn read_cursor(session: &Session<'_>, n: i64) -> Result<Option<Cursor>> {
    Ok(listing::one(session.db, session.header.seal, n)?.cursor.map(Cursor::new))
}

fn phase_text(phase: Phase) -> Result<String> {
    serde_json::to_string(&phase).map_err(|error| damaged("phase", error))
}

fn advance(session: &mut Session<'_>, name: &TableName, cursor: &Cursor, seen: &[RecordId]) -> Result<()> {
    let catalog = session.catalog;
    let table = catalog.named(name)?;
    listing::change(session.db, session.header.seal, table.n, "cursor = ?", [cursor.as_str()])?;
    note_seen(session, table.n, seen)
}

/// Remembers that the server has these records, until the end of a resync or restore.
fn note_seen(session: &mut Session<'_>, n: i64, seen: &[RecordId]) -> Result<()> {
    if !session.walks(n)? {
        return Ok(());
    }
    let sql = "INSERT OR IGNORE INTO dynos_seen (tbl, id) VALUES (?, ?)";
    let mut statement = session.db.prepare_cached(sql).map_err(translate)?;
    for id in seen {
        statement.execute(params![n, id.as_str()]).map_err(translate)?;
    }
    Ok(())
}

fn skip(session: &Session<'_>, name: &TableName, from: &Cursor, to: &Cursor) -> Result<()> {
    let Ok(table) = session.catalog.named(name) else { return Ok(()) };
    let stands = match is_on(Mutant::SkipAnywhere) || is_on(Mutant::AheadForgotten) {
        true => read_cursor(session, table.n)?,
        false => None,
    };
    let from = stands.as_ref().filter(|_| is_on(Mutant::SkipAnywhere)).unwrap_or(from);
    if is_on(Mutant::AheadForgotten) && stands.as_ref() != Some(from) {
        return Ok(());
    }
    let following = phase_text(Phase::Following)?;
    let set = "cursor = iif(cursor = ?1 AND phase = ?2, ?3, cursor), \
               ahead  = iif((cursor = ?1 AND phase = ?2) OR cursor IS ?3, NULL, ?3)";
    let values = [from.as_str(), &following, to.as_str()];
    listing::change(session.db, session.header.seal, table.n, set, values)
}

fn restart(session: &mut Session<'_>, name: &TableName, phase: Phase, ahead: Option<&Cursor>) -> Result<()> {
    let catalog = session.catalog;
    let table = catalog.named(name)?;
    walk_again(session, table, phase, ahead)?;
    for id in queue::records_with_sent(session.db, table.n)? {
        let id: RecordId = id.try_into().map_err(|error| damaged("dynos_queue.id", error))?;
        queue::renumber(session.db, &mut session.header, &table.record(id), table.n, None)?;
    }
    Ok(())
}

/// Has a table pulled from the beginning again. What was sent stays as it is: what it was made on top of is still known.
pub(crate) fn walk_again(
    session: &mut Session<'_>,
    table: &Table,
    phase: Phase,
    ahead: Option<&Cursor>,
) -> Result<()> {
    // A restored server may lack the declaration too.
    let declared = !matches!(phase, Phase::Restore { .. });
    let set = "cursor = NULL, ahead = ?, phase = ?, declared = declared AND ?";
    let values = params![ahead.map(Cursor::as_str), phase_text(phase)?, declared];
    listing::change(session.db, session.header.seal, table.n, set, values)?;
    session.forget_walk();
    forget_seen(session.db, table.n)
}

fn forget_seen(db: &Connection, n: i64) -> Result<()> {
    db.execute("DELETE FROM dynos_seen WHERE tbl = ?", [n]).map(drop).map_err(translate)
}

fn complete(session: &mut Session<'_>, name: &TableName, at: Millis, passed: Option<&Cursor>) -> Result<()> {
    let catalog = session.catalog;
    let table = catalog.named(name)?;
    let phase = session.phase(table.n)?;
    if matches!(phase, Phase::Resync | Phase::Restore { .. }) {
        sweep(session, table, phase)?;
        forget_unseen_bases(session.db, table.n)?;
        forget_seen(session.db, table.n)?;
    }
    let set = "phase = ?, synced_at = ?, ahead = nullif(nullif(ahead, cursor), ?)";
    let values = params![phase_text(Phase::Following)?, at, passed.map(Cursor::as_str)];
    listing::change(session.db, session.header.seal, table.n, set, values)?;
    session.forget_walk();
    columns::walked(session, table)?;
    session.retry_quarantined(table)
}

/// Deals with the rows that the server did not mention: deletes them, or offers them again.
fn sweep(session: &mut Session<'_>, table: &Table, phase: Phase) -> Result<()> {
    let mut unseen = Vec::new();
    rows::for_each_id(session.db, table, |id| {
        let sql = "SELECT 1 FROM dynos_seen WHERE tbl = ?1 AND id = ?2 \
                   UNION ALL SELECT 1 FROM dynos_local WHERE tbl = ?1 AND id = ?2";
        let mut statement = session.db.prepare_cached(sql).map_err(translate)?;
        if !statement.exists(params![table.n, id.as_str()]).map_err(translate)? {
            unseen.push(id);
        }
        Ok(())
    })?;
    for id in unseen {
        let key = table.record(id);
        let deleted =
            phase == Phase::Resync && queue::newest(session.db, table.n, key.id.as_str())?.is_none();
        if phase == Phase::Resync && is_on(Mutant::UnseenKept) {
            continue;
        }
        if deleted || (phase != Phase::Resync && is_on(Mutant::NothingOffered)) {
            session.store(table, &key, None)?;
        } else {
            offer_whole(session, table, &key)?;
        }
    }
    Ok(())
}

/// What was deleted here, and the server did not mention, it does not have either.
fn forget_unseen_bases(db: &Connection, n: i64) -> Result<()> {
    let sql = "DELETE FROM dynos_base WHERE tbl = ?1 \
               AND NOT EXISTS (SELECT 1 FROM dynos_seen AS s WHERE s.tbl = ?1 AND s.id = dynos_base.id) \
               AND NOT EXISTS (SELECT 1 FROM dynos_local AS l WHERE l.tbl = ?1 AND l.id = dynos_base.id)";
    db.execute(sql, [n]).map(drop).map_err(translate)
}

/// Offers a row whole in place of whatever is pending: that may be a patch, and the server has no record that it could
/// apply to.
fn offer_whole(session: &mut Session<'_>, table: &Table, key: &RecordKey) -> Result<()> {
    let pending = queue::of_record(session.db, session.catalog, table.n, key.id.as_str())?;
    let at = pending.iter().map(|entry| entry.at).fold(1, Millis::max);
    match rows::get(session.db, table, &key.id)? {
        Some(row) => offer(session, key, None, &Edit::Replace(row), at).map(drop),
        None => Ok(()),
    }
}

fn set_declared(session: &Session<'_>, name: &TableName, declared: bool) -> Result<()> {
    let table = session.catalog.named(name)?;
    listing::change(session.db, session.header.seal, table.n, "declared = ?", [declared])
}
