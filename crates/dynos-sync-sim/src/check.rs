//! The checkers. Each looks from outside: at the files, at what the server was sent, at what the application was told.

use std::collections::{BTreeMap, BTreeSet};

use dynos_sync_core::{
    Entry, Fields, REDACTED, RecordId, RecordKey, TableName, Value,
    replica::{Phase, Resolved, Seen, State},
    wire::HeadsRequest,
};
use futures_executor::block_on;

use crate::{
    data::Data,
    device::{LABEL, NEW_COLUMN, NEWEST, SECRET, TAG},
    history::{Kind, Mark, Op, OpId, Outcome, mark, written},
    world::World,
};

/// A device's database, if its process is alive and nobody keeps the file.
fn data(world: &World, device: usize) -> Option<Data> {
    let device = &world.devices[device];
    let running = device.running.as_ref()?;
    (!device.leaving && device.lock.is_none()).then(|| running.data.clone())
}

/// A device's database as a whole.
pub(crate) fn state(world: &World, device: usize) -> Option<State> {
    data(world, device)?.state()
}

/// A record without the fields that are null, since a table with columns has a value in each, without masks, which never
/// take the place of what a device knows, and without what versions of the application call by different names.
fn plain(record: Option<&Fields>) -> Option<Fields> {
    let says = |value: &Value| !value.is_null() && *value != REDACTED;
    let is_told = |name: &str, value: &Value| says(value) && ![TAG, LABEL].contains(&name);
    let kept = |(name, value): (&String, &Value)| is_told(name, value).then(|| (name.clone(), value.clone()));
    record.map(|record| record.iter().filter_map(kept).collect())
}

/// A record of the server's, as far as the version of the application on a device has columns for it.
fn known(world: &World, device: usize, key: &RecordKey, record: Option<&Fields>) -> Option<Fields> {
    let mut known = plain(record)?;
    if world.devices[device].version < NEWEST && key.table.as_str() == "tasks" {
        known.remove(NEW_COLUMN);
    }
    Some(known)
}

/// At any time: rows are what was pulled and what is pending on top of it, and nothing else; nothing up to the cursor is
/// missing; nothing was invented.
pub(crate) fn device(world: &World, device: usize) {
    let Some(data) = data(world, device) else { return };
    let Some(state) = data.state() else { return };
    let Some(queue) = data.queue() else { return };
    torn(world, device, &queue);
    let aside = data.aside();
    let user = world.devices[device].user.clone();
    for table in &state.tables {
        let name = &table.spec.name;
        let Some(records) = data.records(name, &queue) else { return };
        for seen in &records {
            folds(world, device, name, seen);
            invented(world, device, name, seen);
        }
        let pending: BTreeSet<&RecordId> =
            records.iter().filter(|seen| !seen.entries.is_empty()).map(|seen| &seen.id).collect();
        let rows: BTreeMap<&RecordId, Option<Fields>> =
            records.iter().map(|seen| (&seen.id, plain(seen.row.as_ref()))).collect();
        let scope = world.parts.server.scope(&user, name);
        let missed = world.parts.server.mirror(|mirror| {
            let place = table.cursor.as_ref().and_then(|cursor| mirror.place_of(&scope, cursor))?;
            // What the device has pushed beyond its cursor the server may have lost, and the device does not know yet.
            if table.phase != Phase::Following || table.ahead.is_some() {
                return None;
            }
            mirror.records(&scope).filter(|(key, _)| key.table == *name).find_map(|(key, kept)| {
                let here = rows.get(&key.id).cloned().flatten();
                let due = kept.seq <= place && !pending.contains(&key.id) && !aside.contains(key.id.as_str());
                let known = known(world, device, key, kept.record.as_ref());
                (due && here != known).then(|| {
                    format!(
                        "device {device} is at {place}, has {here:?} of {key}; {} is {:?}",
                        kept.seq, kept.record
                    )
                })
            })
        });
        if let Some(found) = missed {
            world.parts.history.violation("cursor", found);
        }
    }
}

/// What was written together takes effect together: of a transaction nothing waits, unsent, while the server has had another part of it.
fn torn(world: &World, device: usize, queue: &[Entry]) {
    for entry in queue.iter().filter(|entry| entry.sent.is_none()) {
        let ops: BTreeSet<OpId> =
            entry.edit.fields().into_iter().flat_map(Fields::values).filter_map(written).collect();
        for op in ops {
            if let Some(other) = taken_effect_without(world, device, op, &entry.key) {
                let found = format!(
                    "device {device}: op{op} waits ({entry:?}), and op{other} of its transaction has taken effect"
                );
                world.parts.history.violation("transaction", found);
            }
        }
    }
}

/// Another operation of the same transaction that the server has had, while it never had this one.
fn taken_effect_without(world: &World, device: usize, id: OpId, key: &RecordKey) -> Option<OpId> {
    let others: Vec<(OpId, RecordKey)> = {
        let history = world.parts.history.lock();
        let op = history.ops.get(id as usize)?;
        let is_current = op.device == device && op.session == world.devices[device].session;
        if !op.together || !is_current || op.excused.is_some() {
            return None;
        }
        let of_call = history.ops.iter().enumerate().filter(|(_, other)| other.call == op.call);
        of_call.filter_map(|(id, other)| Some((OpId::try_from(id).ok()?, other.key.clone()))).collect()
    };
    world.parts.server.mirror(|mirror| {
        // Of what somebody went back on, a part may come again alone.
        let is_revived = |key: &RecordKey| mirror.revived.contains(&(device, key.clone()));
        let may_come_again = mirror.is_known(id) || is_revived(key);
        let has_come = |(other, key): &(OpId, RecordKey)| mirror.is_known(*other) && !is_revived(key);
        others.into_iter().find(|other| !may_come_again && has_come(other)).map(|(other, _)| other)
    })
}

fn folds(world: &World, device: usize, table: &TableName, seen: &Seen) {
    if seen.entries.is_empty() {
        return;
    }
    let folded = seen.entries.iter().fold(seen.base.clone(), |record, entry| entry.edit.apply(record));
    if plain(folded.as_ref()) != plain(seen.row.as_ref()) {
        let found = format!(
            "device {device} {table}/{}: the row is {:?}, but {:?} and {:?} make {folded:?}",
            seen.id, seen.row, seen.base, seen.entries
        );
        world.parts.history.violation("row and queue", found);
    }
}

fn invented(world: &World, device: usize, table: &TableName, seen: &Seen) {
    let user = &world.devices[device].user;
    for value in seen.row.iter().flat_map(Fields::values) {
        let Some(op) = written(value) else { continue };
        let author = world.parts.history.lock().ops.get(op as usize).cloned();
        let fits = author.as_ref().is_some_and(|author| {
            let mine = author.user == *user || table.as_str() == "board";
            author.key.table == *table && author.key.id == seen.id && mine
        });
        if !fits {
            let found = format!("device {device} of {user} has {value} in {table}/{}: {author:?}", seen.id);
            world.parts.history.violation("no invention", found);
        }
    }
}

/// For what the server refuses an edit. Nothing else is a reason to give one up.
const REFUSALS: [&str; 10] = [
    "constraint",
    "forbidden",
    "not_found",
    "unknown_table",
    "unknown_column",
    "set_aside",
    "invalid",
    "too_large",
    "transaction",
    "other",
];

/// Takes note of what the device has decided and given up so far.
pub(crate) fn remember(world: &World, device: usize, data: &Data) {
    let (history, replica) = (&world.parts.history, data.replica());
    for conflict in block_on(replica.conflicts(i64::MAX, 100_000)).unwrap_or_default() {
        let Some(resolved) = &conflict.resolved else {
            history.violation("poison", format!("conflict {} cannot be read", conflict.id));
            continue;
        };
        history.conflict(resolved);
        really_conflicts(world, device, resolved);
    }
    for letter in block_on(replica.dead_letters(0, 100_000)).unwrap_or_default() {
        if !REFUSALS.contains(&letter.code.as_str()) {
            history.violation("poison", format!("{} was given up as {}", letter.key, letter.code));
        }
        for (edit, _) in &letter.edits {
            edit.fields().into_iter().for_each(|fields| history.letter(fields));
        }
    }
}

/// What was made on top of the device's own edits is no conflict with them.
fn really_conflicts(world: &World, device: usize, resolved: &Resolved) {
    let (Some(mine), Some(theirs)) = (&resolved.mine, &resolved.theirs) else { return };
    let was = |field: &str| resolved.base.as_ref().and_then(|base| base.get(field));
    let edited: Vec<_> = mine.iter().filter(|(field, value)| was(field) != Some(*value)).collect();
    // Of a value that was masked nobody can tell which operation wrote it.
    if edited.iter().any(|(_, value)| !value.is_null() && written(value).is_none()) {
        return;
    }
    let own: BTreeSet<OpId> = {
        let history = world.parts.history.lock();
        let is_own = |op: &OpId| history.ops.get(*op as usize).is_some_and(|op| op.device == device);
        edited.iter().filter_map(|(_, value)| written(value)).filter(is_own).collect()
    };
    let scope = world.parts.server.scope(&world.devices[device].user, &resolved.key.table);
    let versions = (resolved.base.as_ref(), theirs);
    let invented = world.parts.server.mirror(|mirror| {
        // Where somebody went back on a decision, what was there before is there again.
        !mirror.revived.iter().any(|(_, key)| *key == resolved.key)
            && own.iter().any(|op| mirror.was_made_on(&scope, &resolved.key, versions, device, *op))
    });
    if invented {
        let found = format!("device {device} {}: {theirs:?} was made on top of {mine:?}", resolved.key);
        world.parts.history.violation("real conflicts", found);
    }
}

/// After a start: every acknowledged operation is somewhere, and what was under way is there whole or not at all.
pub(crate) fn opened(world: &World, device: usize) {
    let Some(data) = data(world, device) else { return };
    remember(world, device, &data);
    let Some(state) = data.state() else { return };
    let Some(entries) = data.queue() else { return };
    upgraded(world, device, &data, &entries);
    let mut here: BTreeSet<OpId> = BTreeSet::new();
    let mut queued: BTreeSet<OpId> = BTreeSet::new();
    for table in &state.tables {
        let Some(records) = data.records(&table.spec.name, &entries) else { return };
        for seen in records {
            here.extend(seen.row.iter().flat_map(Fields::values).filter_map(written));
            let edits = seen.entries.iter().filter_map(|entry| entry.edit.fields());
            queued.extend(edits.flat_map(Fields::values).filter_map(written));
        }
    }
    let on_server = world.parts.server.mirror(|mirror| mirror.ever_had());
    let history = world.parts.history.lock();
    let session = world.devices[device].session;
    let mine = |op: &&Op| op.device == device && op.session == session && op.kind != Kind::Remove;
    let synced = |op: &Op| state.table(&op.key.table).is_some();
    let ops = history.ops.iter().enumerate().map(|(id, op)| (OpId::try_from(id).unwrap_or(OpId::MAX), op));
    let mut found = Vec::new();
    for (id, op) in ops.filter(|(_, op)| mine(op) && synced(op) && op.excused.is_none()) {
        let somewhere = queued.contains(&id) || on_server.contains(&id) || history.letters.contains(&id);
        let superseded = || {
            let later = |other: &Op| {
                other.device == device
                    && other.key == op.key
                    && other.outcome != Outcome::Refused
                    && other.may_follow(op)
                    && !std::ptr::eq(other, op)
            };
            history.ops.iter().any(later)
                || history.replaced.values().flatten().any(|(before, _)| *before == Mark::Written(id))
        };
        match op.outcome {
            Outcome::Acknowledged if !somewhere && !superseded() => {
                found.push(("durable", format!("device {device} has lost op{id} {:?} {}", op.kind, op.key)));
            }
            Outcome::Refused if here.contains(&id) || somewhere => {
                found.push(("atomic", format!("device {device} has done op{id}, which it refused")));
            }
            Outcome::Unknown if here.contains(&id) && !somewhere => {
                found
                    .push(("atomic", format!("device {device} has the row of op{id}, but will not send it")));
            }
            Outcome::Unknown if queued.contains(&id) && !here.contains(&id) && !superseded() => {
                found.push(("atomic", format!("device {device} will send op{id}, but has not the row")));
            }
            _ => {}
        }
    }
    drop(history);
    for (checker, found) in found {
        world.parts.history.violation(checker, found);
    }
}

/// After the start of the application's next version: nothing waits in the form of the last, but what was sent so.
fn upgraded(world: &World, device: usize, data: &Data, entries: &[Entry]) {
    let migrated = &world.devices[device].migrated;
    if world.devices[device].version < NEWEST || !migrated.swap(false, std::sync::atomic::Ordering::Relaxed) {
        return;
    }
    let letters = block_on(data.replica().dead_letters(0, 100_000)).unwrap_or_default();
    let edits = letters.iter().flat_map(|letter| &letter.edits).map(|(edit, _)| edit);
    let mut edits = edits.chain(entries.iter().map(|entry| &entry.edit));
    if let Some(old) = edits.find(|edit| edit.fields().is_some_and(|fields| fields.contains_key(TAG))) {
        let found = format!("device {device}: {old:?} waits after the upgrade");
        world.parts.history.violation("schema", found);
    }
}

/// After a logout: nothing of the user is left in the file, nor would be sent.
pub(crate) fn left(world: &World, device: usize) {
    if let Some(data) = data(world, device)
        && let Some(left) = left_over(&data)
    {
        world.parts.history.violation("users", format!("device {device}: {left} after the logout"));
    }
    let disk = &world.devices[device].disk;
    for name in disk.names() {
        let bytes = disk.read(&name).unwrap_or_default();
        if let Some(value) = find_value(&bytes) {
            let found = format!("device {device}: {value} is in {name} after the logout");
            world.parts.history.violation("users", found);
        }
    }
}

fn left_over(data: &Data) -> Option<String> {
    let (state, queue) = (data.state()?, data.queue()?);
    let mut records =
        state.tables.iter().filter_map(|table| data.records(&table.spec.name, &queue)).flatten();
    let left = records.find(|seen| seen.row.is_some());
    queue.first().map(|entry| format!("{entry:?}")).or(left.map(|seen| format!("{seen:?}")))
}

/// Any value of an operation.
fn find_value(bytes: &[u8]) -> Option<String> {
    bytes.windows(2).enumerate().filter(|(_, pair)| pair == b"op").find_map(|(place, _)| {
        let rest = &bytes[place + 2..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (digits > 0 && rest.get(digits) == Some(&b':'))
            .then(|| String::from_utf8_lossy(&bytes[place..place + 2 + digits]).into_owned())
    })
}

/// Whether a device has pulled each table once.
pub(crate) fn has_pulled(world: &World, device: usize) -> bool {
    state(world, device).is_some_and(|state| state.tables.iter().all(|table| table.phase != Phase::First))
}

/// Whether a device has nothing left to do.
pub(crate) fn is_done(world: &World, device: usize) -> bool {
    let Some(state) = state(world, device) else { return false };
    let tables: Vec<TableName> = state.tables.iter().map(|table| table.spec.name.clone()).collect();
    let request = HeadsRequest { replica: state.replica, tables };
    let Ok(heads) = world.parts.server.heads(&world.devices[device].user, request) else { return false };
    let at_head = |table: &dynos_sync_core::replica::TableState| {
        table.phase == Phase::Following
            && table.ahead.is_none()
            && table.cursor.as_ref() == heads.heads.get(&table.spec.name)
    };
    state.pending == 0 && state.tables.iter().all(at_head)
}

/// In the end: the device has what the server has.
pub(crate) fn converged(world: &World, device: usize) {
    let Some(data) = data(world, device) else { return };
    let Some(state) = data.state() else { return };
    remember(world, device, &data);
    let aside = data.aside();
    let user = &world.devices[device].user;
    for table in &state.tables {
        let name = &table.spec.name;
        let Some(records) = data.queue().and_then(|queue| data.records(name, &queue)) else {
            continue;
        };
        let here: BTreeMap<RecordKey, Fields> = records
            .into_iter()
            .filter(|seen| !aside.contains(seen.id.as_str()))
            .filter_map(|seen| {
                Some((RecordKey { table: name.clone(), id: seen.id }, plain(seen.row.as_ref())?))
            })
            .collect();
        let scope = world.parts.server.scope(user, name);
        let there: BTreeMap<RecordKey, Fields> = world.parts.server.mirror(|mirror| {
            let live = mirror.records(&scope).filter(|(key, _)| key.table == *name);
            let live = live.filter(|(key, _)| !aside.contains(key.id.as_str()));
            live.filter_map(|(key, kept)| Some((key.clone(), plain(kept.record.as_ref())?))).collect()
        });
        if here != there {
            let found = format!("device {device} {name}: {here:?}, the server {there:?}");
            world.parts.history.violation("convergence", found);
        }
    }
}

/// What must not leave the application is neither in its files, nor was it sent.
pub(crate) fn secrets(world: &World, device: usize) {
    let device = &world.devices[device];
    let holds = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    let files = device.disk.names();
    let file = files.iter().find(|name| device.disk.read(name).is_some_and(|bytes| holds(&bytes)));
    let sent = device.sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if file.is_some() || sent.iter().any(|body| holds(body.as_bytes())) {
        world.parts.history.violation("secrets", format!("device {}: {file:?}", device.number));
    }
}

/// The file is in order.
pub(crate) fn intact(world: &World, device: usize) {
    if world.devices[device].in_memory {
        return;
    }
    let Ok(db) = world.devices[device].other_program() else { return };
    let found: rusqlite::Result<String> = db.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    if found.as_deref() != Ok("ok") {
        world.parts.history.violation("integrity", format!("device {device}: {found:?}"));
    }
}

/// In the end: from everything that was acknowledged, a trail of what took its place leads to what is there.
pub(crate) fn trails(world: &World) {
    let scope = |op: &Op| world.parts.server.scope(&op.user, &op.key.table);
    let ops = world.parts.history.lock().ops.clone();
    for (id, op) in ops.iter().enumerate() {
        if op.outcome != Outcome::Acknowledged || op.excused.is_some() {
            continue;
        }
        let id = OpId::try_from(id).unwrap_or(OpId::MAX);
        let scope = scope(op);
        let last = world
            .parts
            .server
            .mirror(|mirror| mirror.record(&scope, &op.key).and_then(|kept| kept.record.clone()));
        for field in &op.fields {
            if !leads(world, &ops, id, field, &mark(last.as_ref(), field)) {
                let found = format!(
                    "op{id} {:?} {}.{field} of device {} has vanished; there is {last:?}",
                    op.kind, op.key, op.device
                );
                world.parts.history.violation("trail", found);
            }
        }
    }
}

fn leads(world: &World, ops: &[Op], from: OpId, field: &str, to: &Mark) -> bool {
    let history = world.parts.history.lock();
    let mut met: BTreeSet<OpId> = BTreeSet::new();
    let mut next = vec![from];
    while let Some(id) = next.pop() {
        if !met.insert(id) {
            continue;
        }
        let op = &ops[id as usize];
        // Who wrote it has left, and what the server lost afterwards nobody need have known.
        let left = world.devices[op.device].session != op.session;
        let nobody_knew = left && world.parts.server.mirror(|mirror| mirror.has_lost(id));
        if *to == Mark::Written(id) || history.letters.contains(&id) || op.excused.is_some() || nobody_knew {
            return true;
        }
        let spot = (op.key.clone(), field.to_owned());
        for (before, after) in history.replaced.get(&spot).into_iter().flatten() {
            match after {
                _ if *before != Mark::Written(id) => {}
                Mark::Written(after) => next.push(*after),
                Mark::Nothing => return true,
            }
        }
        // The same device has gone over it before it was sent.
        for (place, later) in ops.iter().enumerate() {
            let same = later.device == op.device && later.session == op.session && later.key == op.key;
            if same && later.may_follow(op) && later.outcome != Outcome::Refused {
                if later.kind == Kind::Remove {
                    return true;
                }
                if later.fields.iter().any(|name| name == field) {
                    next.push(OpId::try_from(place).unwrap_or(OpId::MAX));
                }
            }
        }
    }
    false
}
