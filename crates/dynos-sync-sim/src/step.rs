//! The steps that a world takes.

use std::sync::{Arc, PoisonError};

use dynos_sync::{SyncEngine, SyncError};
use dynos_sync_core::{Clock, Counter, Fields, RecordKey, ReplicaError, replica::DeadLetter};

use crate::{
    check,
    data::Data,
    device::{Device, NEWEST, SECRET, SECRET_FIELD, TAG},
    disk::{self, Fault, Loss},
    history::{History, Kind, Op, OpId, Outcome, value},
    network,
    server::RECORD_LIMIT,
    swarm::Step,
    tally::Doing,
    world::{Killer, Notice, World},
};

const FIELDS: [&str; 3] = ["a", "b", "c"];

/// Takes a step: where it meets a device that is about something rare, often one that goes wrong.
pub(crate) fn take(world: &mut World, n: u32, random: &mut fastrand::Rng) {
    let device = aim(world, random);
    if is_rare(world, device) && random.u8(..3) == 0 {
        return strike(world, device, random, Step::is_fault);
    }
    let Some(step) = draw(world, random) else { return };
    world.note(&format!("step {n}: {step:?} on device {device}"));
    perform(world, step, device, random);
}

/// Lets something go wrong that goes wrong in this world, each kind as often as the others.
pub(crate) fn strike(world: &mut World, device: usize, random: &mut fastrand::Rng, which: fn(Step) -> bool) {
    let kinds: Vec<_> =
        world.parts.swarm.weights.iter().map(|(step, _)| *step).filter(|step| which(*step)).collect();
    if kinds.is_empty() {
        return;
    }
    let step = kinds[random.usize(..kinds.len())];
    world.note(&format!("and {step:?} on device {device}"));
    perform(world, step, device, random);
}

fn draw(world: &World, random: &mut fastrand::Rng) -> Option<Step> {
    let weights = &world.parts.swarm.weights;
    let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
    let mut drawn = random.u32(..total.max(1));
    let chosen = weights.iter().find(|(_, weight)| {
        let chosen = drawn < *weight;
        drawn = drawn.saturating_sub(*weight);
        chosen
    });
    chosen.map(|(step, _)| *step)
}

/// Any device; rather one that is about something rare.
fn aim(world: &World, random: &mut fastrand::Rng) -> usize {
    let any = random.usize(..world.devices.len());
    if random.bool() {
        return any;
    }
    (0..world.devices.len()).find(|device| is_rare(world, *device)).unwrap_or(any)
}

fn is_rare(world: &World, device: usize) -> bool {
    matches!(world.devices[device].activity.get(), Doing::Opening | Doing::CatchingUp | Doing::Leaving)
}

fn perform(world: &mut World, step: Step, device: usize, random: &mut fastrand::Rng) {
    match step {
        Step::Edit => edit(world, device, random, 0),
        Step::Oversize => edit(world, device, random, RECORD_LIMIT),
        Step::EditMany => edit_many(world, device, random),
        Step::Transaction => transaction(world, device, random),
        Step::Sql => sql(world, device, random),
        Step::Sync => sync(world, device, random),
        Step::Second => second(world, device, random),
        Step::Offline => offline(world, device),
        Step::Days => days(world, device, random),
        Step::Clock => clock(world, device, random),
        Step::Echo => echo(world, device, random),
        Step::Kill => kill(world, device, random),
        Step::Power => power(world, device, random),
        Step::DiskFull => disk_fault(world, device, random, "disk full", |calls| Fault::Full { calls }),
        Step::DiskBroken => {
            disk_fault(world, device, random, "disk broken", |calls| Fault::Broken { calls });
        }
        Step::Lock => lock(world, device),
        Step::Logout => logout(world, device, random),
        Step::DeviceBackUp => back_up(world, device),
        Step::DeviceRestore => restore(world, device, random),
        Step::Review => review(world, device, random),
        Step::Table => table(world, device, random),
        Step::Upgrade => upgrade(world, device, random),
        Step::ServerRestart | Step::ServerPower | Step::ServerBackUp | Step::ServerRestore | Step::Purge => {
            server(world, step, device, random);
        }
    }
}

fn server(world: &mut World, step: Step, device: usize, random: &mut fastrand::Rng) {
    let all_have_pulled = (0..world.devices.len()).all(|device| check::has_pulled(world, device));
    if step == Step::Purge && !(all_have_pulled && world.parts.network.is_quiet()) {
        return;
    }
    let server = &world.parts.server;
    let doing = world.devices[device].activity.get();
    match step {
        Step::ServerBackUp => server.back_up(),
        Step::Purge => server.purge(),
        Step::ServerRestart => {
            server.restart();
            world.parts.tally.fault("server killed", doing);
        }
        Step::ServerPower => {
            world.parts.network.cut();
            let lost = server.lose_power(&mut Loss::new(random.u64(..)));
            world.note(&format!("the server loses {lost} commits"));
            world.parts.tally.fault("server lost power", doing);
        }
        Step::ServerRestore => {
            world.parts.network.cut();
            if server.restore(random) {
                world.parts.tally.fault("server restored", doing);
            }
        }
        _ => {}
    }
}

fn engine(world: &World, device: usize) -> Option<(SyncEngine, Data)> {
    let device = &world.devices[device];
    let running = device.running.as_ref().filter(|_| !device.leaving)?;
    Some((running.engine.clone(), running.data.clone()))
}

/// An engine of the device for an edit: of any of its processes.
fn any_engine(world: &World, device: usize, random: &mut fastrand::Rng) -> Option<SyncEngine> {
    let (engine, _) = engine(world, device)?;
    match &world.devices[device].second {
        Some(second) if random.bool() => Some(second.clone()),
        _ => Some(engine),
    }
}

fn draw_key(world: &World, device: usize, random: &mut fastrand::Rng) -> Option<RecordKey> {
    let tables = &world.devices[device].tables;
    let table = *tables.get(random.usize(..tables.len().max(1)))?;
    RecordKey::new(table, &format!("r{}", random.usize(..world.parts.swarm.records))).ok()
}

fn draw_op(world: &World, device: usize, random: &mut fastrand::Rng, call: u32) -> Option<Op> {
    let key = draw_key(world, device, random)?;
    let kind = [Kind::Write, Kind::Write, Kind::Patch, Kind::Patch, Kind::Remove][random.usize(..5)];
    let known = known_fields(world, device, &key);
    let mut fields: Vec<String> =
        known.iter().filter(|_| random.bool()).map(|field| (*field).to_owned()).collect();
    if fields.is_empty() {
        fields.push(known[random.usize(..known.len())].to_owned());
    }
    if kind == Kind::Remove {
        fields.clear();
    }
    let (session, user) = (world.devices[device].session, world.devices[device].user.clone());
    let at = world.local_time(device);
    Some(Op {
        device,
        session,
        user,
        call,
        together: false,
        tagged: world.devices[device].version < NEWEST,
        key,
        kind,
        fields,
        outcome: Outcome::Open,
        excused: None,
        span: (0, 0),
        at,
    })
}

/// What the version of the application on a device knows of a record.
fn known_fields(world: &World, device: usize, key: &RecordKey) -> &'static [&'static str] {
    let is_older = world.devices[device].version < NEWEST;
    if is_older && key.table.as_str() == "tasks" { &FIELDS[..2] } else { &FIELDS[..] }
}

fn fields_of(op: &Op, id: OpId, filling: usize) -> Fields {
    let is_tagged = op.tagged && op.key.table.as_str() != "tasks";
    let tag = is_tagged.then(|| (TAG.to_owned(), 1.into()));
    op.fields.iter().map(|field| (field.clone(), value(id, filling))).chain(tag).collect()
}

/// What the application knows afterwards.
fn outcome_of<T>(result: &Result<T, SyncError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Acknowledged,
        Err(SyncError::Replica(ReplicaError::Storage { .. } | ReplicaError::Corrupt(_))) => Outcome::Unknown,
        Err(_) => Outcome::Refused,
    }
}

pub(crate) fn edit(world: &mut World, device: usize, random: &mut fastrand::Rng, filling: usize) {
    let call = world.parts.history.call();
    if let Some(op) = draw_op(world, device, random, call) {
        edit_as(world, op, random, filling);
    }
}

fn edit_as(world: &mut World, op: Op, random: &mut fastrand::Rng, filling: usize) {
    let device = op.device;
    let Some(engine) = any_engine(world, device, random) else { return };
    world.parts.tally.done("operations");
    let (history, timeline) = (world.parts.history.clone(), world.parts.timeline.clone());
    let acknowledged = Arc::clone(&world.devices[device].acknowledged);
    let disk = world.devices[device].disk.clone();
    let secrets = world.parts.swarm.secrets;
    world.spawn(device, async move {
        let id = history.ask(op.clone());
        let (table, record) = (op.key.table.as_str(), op.key.id.as_str());
        let mut fields = fields_of(&op, id, filling);
        if secrets {
            fields.insert(SECRET_FIELD.to_owned(), SECRET.into());
        }
        let result = match op.kind {
            Kind::Write => engine.write(table, record, fields).await,
            Kind::Patch => engine.patch(table, record, fields).await,
            Kind::Remove => engine.remove(table, record).await.map(drop),
        };
        let outcome = outcome_of(&result);
        history.settle(id, outcome);
        if outcome == Outcome::Acknowledged {
            acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((id, disk.log_syncs()));
        }
        let said = result.map_or_else(|error| error.to_string(), |()| "done".to_owned());
        let line = format!("device {device} op{id} {:?} {} {:?}: {said}", op.kind, op.key, op.fields);
        history.note(timeline.now(), &line);
    });
}

fn edit_many(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    let Some(engine) = any_engine(world, device, random) else { return };
    let (history, timeline) = (world.parts.history.clone(), world.parts.timeline.clone());
    let call = history.call();
    let Some(first) = draw_op(world, device, random, call) else { return };
    let mut ops: Vec<Op> = Vec::new();
    for _ in 0..random.usize(2..=6) {
        let Some(op) = draw_op(world, device, random, call) else { return };
        let known = ops.iter().any(|known| known.key.id == op.key.id);
        if op.kind != Kind::Remove && !known {
            let key = RecordKey { table: first.key.table.clone(), id: op.key.id };
            let fields = known_fields(world, device, &key)[..1].iter().map(|name| (*name).to_owned());
            ops.push(Op { fields: fields.collect(), key, kind: Kind::Write, ..op });
        }
    }
    world.parts.tally.done("operations");
    let acknowledged = Arc::clone(&world.devices[device].acknowledged);
    let disk = world.devices[device].disk.clone();
    world.spawn(device, async move {
        let asked: Vec<(OpId, Op)> = ops.into_iter().map(|op| (history.ask(op.clone()), op)).collect();
        let records = asked.iter().map(|(id, op)| (op.key.id.to_string(), fields_of(op, *id, 0))).collect();
        let result = engine.write_many(first.key.table.as_str(), records).await;
        let outcome = outcome_of(&result);
        for (id, op) in &asked {
            history.settle(*id, outcome);
            if outcome == Outcome::Acknowledged {
                acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((*id, disk.log_syncs()));
            }
            history.note(timeline.now(), &format!("device {device} op{id} of many {}: {outcome:?}", op.key));
        }
    });
}

/// Edits that take effect together, sometimes with one that the server will refuse.
fn transaction(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    let Some(engine) = any_engine(world, device, random) else { return };
    let (history, timeline) = (world.parts.history.clone(), world.parts.timeline.clone());
    let call = history.call();
    let mut ops: Vec<Op> = Vec::new();
    for _ in 0..random.usize(2..=5) {
        let Some(op) = draw_op(world, device, random, call) else { return };
        if ops.iter().all(|known| known.key != op.key) {
            ops.push(Op { together: true, ..op });
        }
    }
    let oversize = if random.u8(..8) == 0 { random.usize(..ops.len()) } else { ops.len() };
    world.parts.tally.done("transactions");
    let acknowledged = Arc::clone(&world.devices[device].acknowledged);
    let disk = world.devices[device].disk.clone();
    world.spawn(device, async move {
        let asked: Vec<(OpId, Op)> = ops.into_iter().map(|op| (history.ask(op.clone()), op)).collect();
        let mut transaction = engine.transaction();
        for (place, (id, op)) in asked.iter().enumerate() {
            let (table, record) = (op.key.table.as_str(), op.key.id.as_str());
            let fields = fields_of(op, *id, if place == oversize { RECORD_LIMIT } else { 0 });
            transaction = match op.kind {
                Kind::Write => transaction.write(table, record, fields),
                Kind::Patch => transaction.patch(table, record, fields),
                Kind::Remove => transaction.remove(table, record),
            };
        }
        let result = transaction.commit().await;
        let outcome = outcome_of(&result);
        for (id, op) in &asked {
            history.settle(*id, outcome);
            if outcome == Outcome::Acknowledged {
                acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((*id, disk.log_syncs()));
            }
            let line = format!(
                "device {device} op{id} together {:?} {} {:?}: {result:?}",
                op.kind, op.key, op.fields
            );
            history.note(timeline.now(), &line);
        }
    });
}

/// Another program's transaction.
fn sql(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    let taken = &world.devices[device];
    if taken.running.is_none() || taken.leaving || taken.in_memory {
        return;
    }
    let call = world.parts.history.call();
    let together = random.u8(..4) == 0;
    let ops: Vec<Op> = (0..random.usize(1..=3))
        .filter_map(|_| draw_op(world, device, random, call))
        .map(|op| Op { together, ..op })
        .collect();
    world.parts.tally.done("operations");
    world.devices[device].activity.set(Doing::Writing);
    let history = world.parts.history.clone();
    let asked: Vec<(OpId, Op)> = ops.into_iter().map(|op| (history.ask(op.clone()), op)).collect();
    let result = run_sql(&mut world.devices[device], &asked);
    let (outcome, done) = match &result {
        Ok(done) => (Outcome::Acknowledged, done.clone()),
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.code == rusqlite::ErrorCode::SystemIoFailure =>
        {
            (Outcome::Unknown, Vec::new())
        }
        Err(_) => (Outcome::Refused, Vec::new()),
    };
    let disk = world.devices[device].disk.clone();
    for (place, (id, op)) in asked.iter().enumerate() {
        // A statement that met no row did nothing.
        let nothing = outcome == Outcome::Acknowledged && !done.get(place).copied().unwrap_or(false);
        let outcome = if nothing { Outcome::Refused } else { outcome };
        history.settle(*id, outcome);
        if outcome == Outcome::Acknowledged {
            let mut acknowledged =
                world.devices[device].acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            acknowledged.push((*id, disk.log_syncs()));
        }
        world.note(&format!(
            "device {device} op{id} by SQL {:?} {} {:?}: {outcome:?}",
            op.kind, op.key, op.fields
        ));
    }
    world.meet_fate(device);
}

fn run_sql(device: &mut Device, asked: &[(OpId, Op)]) -> rusqlite::Result<Vec<bool>> {
    disk::set_now(device.clock.now());
    if device.other.is_none() {
        device.other = Some(device.other_program()?);
    }
    let Some(db) = &mut device.other else { return Ok(Vec::new()) };
    let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let together = asked.iter().any(|(_, op)| op.together);
    let mark = |mark: &str| match together {
        true => cached(&tx, "INSERT INTO dynos_transaction VALUES (?1)", [mark]).map(drop),
        false => Ok(()),
    };
    let mut done = Vec::new();
    mark("begin")?;
    for (id, op) in asked {
        done.push(execute(&tx, *id, op)? > 0);
    }
    mark("end")?;
    tx.commit()?;
    Ok(done)
}

fn cached(db: &rusqlite::Connection, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<usize> {
    db.prepare_cached(sql)?.execute(values)
}

fn execute(db: &rusqlite::Connection, id: OpId, op: &Op) -> rusqlite::Result<usize> {
    let table = &op.key.table;
    let record = op.key.id.as_str();
    let text = value(id, 0);
    let text = text.as_str().unwrap_or_default();
    if op.kind == Kind::Remove {
        return cached(db, &format!("DELETE FROM {table} WHERE id = ?1"), [record]);
    }
    if table.as_str() == "tasks" {
        let sets = op.fields.iter().map(|field| format!("{field} = ?2")).collect::<Vec<_>>().join(", ");
        return match op.kind {
            Kind::Patch => cached(db, &format!("UPDATE tasks SET {sets} WHERE id = ?1"), [record, text]),
            _ => {
                let (names, places) = (op.fields.join(", "), vec!["?2"; op.fields.len()].join(", "));
                let sql = format!(
                    "INSERT INTO tasks (id, {names}) VALUES (?1, {places}) ON CONFLICT (id) DO UPDATE SET {sets}"
                );
                cached(db, &sql, [record, text])
            }
        };
    }
    let pairs = op.fields.iter().map(|field| format!("'$.{field}', ?2")).collect::<Vec<_>>().join(", ");
    match op.kind {
        Kind::Patch => {
            let sql = format!("UPDATE {table} SET data = json_set(data, {pairs}) WHERE id = ?1");
            cached(db, &sql, [record, text])
        }
        _ => {
            let sql = format!(
                "INSERT INTO {table} (id, data) VALUES (?1, json_set('{{}}', {pairs})) \
                 ON CONFLICT (id) DO UPDATE SET data = json_set(data, {pairs})"
            );
            cached(db, &sql, [record, text])
        }
    }
}

/// The application asks for everything, or for a part.
fn sync(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    let Some((engine, _)) = engine(world, device) else { return };
    let (history, timeline) = (world.parts.history.clone(), world.parts.timeline.clone());
    let part = random.u8(..4);
    world.spawn(device, async move {
        let result = match part {
            0 => engine.drain().await.map(drop),
            1 => engine.drain_once().await.map(drop),
            2 => engine.pull_all().await.map(drop),
            _ => engine.sync_all().await.map(drop),
        };
        if let Err(error) = result {
            history.note(timeline.now(), &format!("device {device} cannot sync: {error}"));
        }
    });
}

/// The answer to a push is lost. Before its sender asks again the others have it, and edit the same record; and sometimes it pulls first.
fn echo(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    let Some(key) = draw_key(world, device, random) else { return };
    edit_key(world, device, &key, random);
    world.parts.network.set_deaf(Some(device));
    world.sync(device);
    world.pass(500);
    world.parts.network.set_deaf(None);
    for other in (0..world.devices.len()).filter(|other| *other != device) {
        world.sync(other);
        world.pass(500);
        edit_key(world, other, &key, random);
        world.sync(other);
    }
    if let Some((engine, _)) = engine(world, device).filter(|_| random.bool()) {
        world.spawn(device, async move { drop(engine.pull_all().await) });
    }
    world.pass(network::PATIENCE);
}

fn edit_key(world: &mut World, device: usize, key: &RecordKey, random: &mut fastrand::Rng) {
    let call = world.parts.history.call();
    if let Some(op) = draw_op(world, device, random, call)
        && world.devices[device].tables.contains(&key.table.as_str())
    {
        edit_as(
            world,
            Op { key: key.clone(), kind: Kind::Write, fields: vec![FIELDS[0].to_owned()], ..op },
            random,
            0,
        );
        world.pass(10);
    }
}

fn offline(world: &mut World, device: usize) {
    let offline = !world.parts.network.is_offline(device);
    if offline {
        world.parts.tally.fault("offline", world.devices[device].activity.get());
    }
    world.parts.network.set_offline(device, offline);
}

fn days(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    world.parts.tally.fault("offline", world.devices[device].activity.get());
    world.parts.network.set_offline(device, true);
    world.pass(random.i64(60_000..=2 * 60 * 60 * 1000));
    world.parts.network.set_offline(device, false);
}

fn clock(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    const HOUR: i64 = 60 * 60 * 1000;
    let by = [0, HOUR, -HOUR, 365 * 24 * HOUR, -365 * 24 * HOUR, 77, -3_000][random.usize(..7)];
    world.devices[device].clock.set_ahead(by);
    world.parts.tally.fault("clock set", world.devices[device].activity.get());
}

fn kill(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    if world.devices[device].running.is_none() {
        return;
    }
    if random.bool() {
        world.parts.tally.fault("killed", world.devices[device].activity.get());
        world.kill(device);
    } else {
        world.arm(device, random.u64(..60), Fault::Kill, Killer::Kill);
    }
}

fn power(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    let seed = random.u64(..);
    if random.bool() {
        world.parts.tally.fault("power lost", world.devices[device].activity.get());
        world.lose_power(device, seed);
    } else {
        world.arm(device, random.u64(..60), Fault::Kill, Killer::Power(seed));
    }
}

fn disk_fault(
    world: &mut World,
    device: usize,
    random: &mut fastrand::Rng,
    name: &'static str,
    fault: impl FnOnce(u64) -> Fault,
) {
    let (after, calls) = (random.u64(..40), random.u64(1..=60));
    world.arm(device, after, fault(calls), Killer::Error(name));
}

/// Another program begins to hold the file's lock, or lets it go.
fn lock(world: &mut World, device: usize) {
    if world.devices[device].lock.take().is_some()
        || world.devices[device].running.is_none()
        || world.devices[device].in_memory
    {
        return;
    }
    let Ok(db) = world.devices[device].other_program() else { return };
    if db.execute_batch("BEGIN IMMEDIATE").is_ok() {
        world.parts.tally.fault("file locked", world.devices[device].activity.get());
        world.devices[device].lock = Some(db);
    }
}

fn logout(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    let Some((engine, data)) = engine(world, device) else { return };
    let leave = leave(world, device, engine, &data, random);
    world.spawn(device, leave);
    if random.u8(..4) > 0 {
        for _ in 0..random.usize(..12) {
            if world.devices[device].activity.get() == Doing::Leaving {
                break;
            }
            world.run_one();
        }
        strike(world, device, random, Step::is_fault);
    }
}

fn leave(
    world: &mut World,
    device: usize,
    engine: SyncEngine,
    data: &Data,
    random: &mut fastrand::Rng,
) -> impl Future<Output = ()> + Send + use<> {
    let discard = random.u8(..4) > 0;
    check::remember(world, device, data);
    world.devices[device].leaving = true;
    world.parts.tally.done("logouts");
    world.devices[device].discards = discard;
    let (history, timeline, notices) =
        (world.parts.history.clone(), world.parts.timeline.clone(), Arc::clone(&world.notices));
    async move {
        let result = engine.logout(discard).await;
        let line = format!("device {device} logout with discard {discard}: {result:?}");
        history.note(timeline.now(), &line);
        let done = result.is_ok();
        notices.lock().unwrap_or_else(PoisonError::into_inner).push(Notice::Left { device, done });
    }
}

/// Another process on the same file: it syncs, or logs out, and ends.
fn second(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    let Some((_, data)) = engine(world, device) else { return };
    let taken = &world.devices[device];
    if taken.in_memory || taken.lock.is_some() || taken.second.is_some() {
        return;
    }
    let started = taken.start_second();
    world.meet_fate(device);
    let Ok((engine, work)) = started else { return };
    if world.devices[device].running.is_none() {
        return;
    }
    world.parts.tally.done("second engines");
    world.devices[device].second = Some(engine.clone());
    world.spawn(device, work);
    let leaves = random.u8(..3) == 0;
    let leave = leaves.then(|| leave(world, device, engine.clone(), &data, random));
    let (history, timeline, notices) =
        (world.parts.history.clone(), world.parts.timeline.clone(), Arc::clone(&world.notices));
    world.spawn(device, async move {
        match leave {
            Some(leave) => leave.await,
            None => {
                let result = engine.sync_all().await;
                history.note(timeline.now(), &format!("device {device}, second process: {result:?}"));
            }
        }
        engine.close().await;
        notices.lock().unwrap_or_else(PoisonError::into_inner).push(Notice::Ended { device });
    });
}

fn back_up(world: &mut World, device: usize) {
    // What is under way may not be in it yet.
    let history = world.parts.history.lock();
    let is_open = |op: &Op| op.device == device && op.outcome == Outcome::Open;
    let ops = history.ops.iter().position(is_open).unwrap_or(history.ops.len());
    let device = &mut world.devices[device];
    if !device.leaving && device.lock.is_none() && device.running.is_some() && !device.in_memory {
        device.images.push((device.disk.image(), ops));
    }
}

fn restore(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    if world.devices[device].images.is_empty() {
        return;
    }
    world.parts.tally.fault("file put back", world.devices[device].activity.get());
    let place = random.usize(..world.devices[device].images.len());
    let (image, ops) = world.devices[device].images[place].clone();
    if let Some(running) = &world.devices[device].running {
        check::remember(world, device, &running.data);
    }
    let used = last_counter(world, device);
    world.kill(device);
    world.parts.network.cut_device(device);
    world.devices[device].disk.put_back(&image);
    // What is not on the server yet is gone, and what was written by then may be sent again.
    let mut history = world.parts.history.lock();
    for (id, op) in history.ops.iter_mut().enumerate() {
        if op.device == device && id >= ops {
            op.excused.get_or_insert("file put back");
        }
    }
    drop(history);
    world.revive_all(device);
    if random.bool() {
        write_offline(world, device, random, used);
    }
}

/// Writes to a file that was put back before it meets the server: sometimes until its numbers are beyond those that it had
/// `used`, so that they alone show no copy.
fn write_offline(world: &mut World, device: usize, random: &mut fastrand::Rng, used: Counter) {
    world.start(device);
    world.parts.network.set_offline(device, true);
    let edits = random.usize(1..=12);
    let beyond = if random.bool() { used } else { 0 };
    for n in 0..60 {
        if n >= edits && last_counter(world, device) > beyond {
            break;
        }
        edit(world, device, random, 0);
        world.pass(10);
    }
}

fn last_counter(world: &World, device: usize) -> Counter {
    check::state(world, device).map_or(0, |state| state.last_counter)
}

/// Edits of a record that somebody went back on may be gone: once a review ends, be it that its process was killed.
struct GoneBackOn {
    history: History,
    keys: Vec<RecordKey>,
}

impl Drop for GoneBackOn {
    fn drop(&mut self) {
        self.history.excuse("gone back on", |op| self.keys.contains(&op.key));
    }
}

fn review(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    let Some((engine, data)) = engine(world, device) else { return };
    let replica = data.replica();
    let (Ok(letters), Ok(conflicts)) = (
        futures_executor::block_on(replica.dead_letters(0, 100)),
        futures_executor::block_on(replica.conflicts(i64::MAX, 100)),
    ) else {
        return;
    };
    check::remember(world, device, &data);
    let (history, timeline) = (world.parts.history.clone(), world.parts.timeline.clone());
    let draw = random.u64(..);
    if let Some(letter) = letters.get(draw as usize % letters.len().max(1)) {
        let (id, retry) = (letter.id, random.bool());
        let goes_with_it = |other: &&DeadLetter| {
            other.id == id || (other.transaction.is_some() && other.transaction == letter.transaction)
        };
        let keys: Vec<RecordKey> =
            letters.iter().filter(goes_with_it).map(|letter| letter.key.clone()).collect();
        keys.iter().for_each(|key| world.revive_key(device, key));
        let gone_back_on = GoneBackOn { history: history.clone(), keys };
        world.parts.tally.done("reviews");
        world.spawn(device, async move {
            let _at_the_end = gone_back_on;
            let result =
                if retry { engine.retry_dead_letter(id).await } else { engine.discard_dead_letter(id).await };
            history.note(timeline.now(), &format!("device {device} letter {id} retry {retry}: {result:?}"));
        });
    } else if let Some(conflict) = conflicts.get(draw as usize % conflicts.len().max(1)) {
        let Some(resolved) = &conflict.resolved else { return };
        let id = conflict.id;
        let gone_back_on = GoneBackOn { history: history.clone(), keys: vec![resolved.key.clone()] };
        world.revive_key(device, &resolved.key);
        world.parts.tally.done("reviews");
        world.spawn(device, async move {
            let _at_the_end = gone_back_on;
            let result = engine.undo_conflict(id).await;
            history.note(timeline.now(), &format!("device {device} undoes conflict {id}: {result:?}"));
        });
    }
}

/// The application ends, and its next version starts; something may go wrong with the disk meanwhile.
fn upgrade(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    let taken = &world.devices[device];
    if taken.version == NEWEST || taken.running.is_none() || taken.leaving {
        return;
    }
    world.upgrade(device);
    if random.bool() {
        strike(world, device, random, Step::is_of_disk);
    }
    world.start(device);
}

fn table(world: &mut World, device: usize, random: &mut fastrand::Rng) {
    let Some((engine, data)) = engine(world, device) else { return };
    let all = world.parts.swarm.tables.clone();
    let table = all[random.usize(..all.len())];
    check::remember(world, device, &data);
    let (history, timeline) = (world.parts.history.clone(), world.parts.timeline.clone());
    let syncs = world.devices[device].tables.contains(&table);
    let session = world.devices[device].session;
    let of_table =
        move |op: &Op| op.device == device && op.session == session && op.key.table.as_str() == table;
    if syncs {
        world.devices[device].tables.retain(|known| *known != table);
        history.excuse("table removed", of_table);
    }
    for n in 0..world.parts.swarm.records {
        if let Ok(key) = RecordKey::new(table, &format!("r{n}")) {
            world.revive_key(device, &key);
        }
    }
    let notices = Arc::clone(&world.notices);
    world.spawn(device, async move {
        let result = match syncs {
            true => {
                let removed = engine.remove_table(table).await;
                // What was on its way came before or after.
                history.excuse("table removed", of_table);
                removed
            }
            false => engine.add_table(table, true).await,
        };
        if !syncs && result.is_ok() {
            notices.lock().unwrap_or_else(PoisonError::into_inner).push(Notice::Added { device, table });
        }
        history.note(timeline.now(), &format!("device {device} syncs {table} {}: {result:?}", !syncs));
    });
    disk::set_now(world.local_time(device));
}
