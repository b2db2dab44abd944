//! Bringing what waits up to the version of the application's schema, and what was sent before that as it was sent.

use dynos_sync_core::{
    Entry, Fields, RecordId, Schema, TableName,
    sabotage::{Mutant, is_on},
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    error::{Result, translate},
    letters, queue,
    raw::{Raw, raws},
    rows::parse,
    session::Session,
    sum::Seal,
};

/// How many rows are read at a time.
const PAGE: i64 = 1000;

/// What leads from the version that was found to the application's.
pub(crate) struct Upgrade<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) found: u32,
}

impl Upgrade<'_> {
    /// Fields in the form of now; `None` where they are in it already.
    fn of(&self, table: &TableName, fields: &Fields) -> Option<Fields> {
        let mut new = fields.clone();
        self.schema.upgrade(self.found, table, &mut new);
        (new != *fields).then_some(new)
    }
}

/// Everything must have been collected. What cannot be read stays as it is, to be set aside when it is its turn.
pub(crate) fn adopt(session: &mut Session<'_>, schema: &Schema) -> Result<bool> {
    let found = session.header.schema;
    if !schema.is_ahead_of(found)? {
        return Ok(false);
    }
    let upgrade = Upgrade { schema, found };
    upgrade_queue(session, &upgrade)?;
    upgrade_bases(session, &upgrade)?;
    if !is_on(Mutant::LettersLeftBehind) {
        letters::upgrade(session.db, session.catalog, &upgrade)?;
    }
    session.header.schema = schema.number();
    Ok(true)
}

fn upgrade_queue(session: &Session<'_>, upgrade: &Upgrade<'_>) -> Result<()> {
    let mut after = 0;
    loop {
        let found = raws(session.db, "WHERE counter > ? ORDER BY counter LIMIT ?", [after, PAGE])?;
        let Some((last, _)) = found.last() else { return Ok(()) };
        after = *last;
        for raw in found.into_iter().filter_map(|(_, raw)| raw.ok()) {
            upgrade_entry(session, upgrade, raw)?;
        }
    }
}

fn upgrade_entry(session: &Session<'_>, upgrade: &Upgrade<'_>, raw: Raw) -> Result<()> {
    let seal = session.header.seal;
    let (Some(table), Some(data)) = (session.catalog.numbered(raw.tbl), &raw.data) else { return Ok(()) };
    let Ok(fields) = parse(data) else { return Ok(()) };
    let Some(new) = upgrade.of(table.name(), &fields).filter(|_| raw.is_intact(seal)) else { return Ok(()) };
    let (was, before) = (raw.sent.then(|| data.clone()), raw.sum);
    let raw = Raw { data: Some(queue::json(&new)?), ..raw };
    let now = raw.right_sum(seal);
    let sql = "UPDATE dynos_queue SET data = ?, sum = ? WHERE counter = ?";
    let mut statement = session.db.prepare_cached(sql).map_err(translate)?;
    statement.execute(params![raw.data, now, raw.counter]).map_err(translate)?;
    match was {
        Some(was) => keep_sent(session.db, seal, &raw, &was, (before, now)),
        None => Ok(()),
    }
}

/// Keeps what an entry was sent with. Where an earlier upgrade has kept that already, it holds for the entry as it is now.
fn keep_sent(db: &Connection, seal: Seal, raw: &Raw, was: &str, (before, now): (i64, i64)) -> Result<()> {
    let sql = "INSERT INTO dynos_sent_as (counter, tbl, data, now, sum) VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT (counter) DO UPDATE SET data = iif(now = ?6, data, ?3), now = ?4, sum = iif(now = ?6, sum, ?5)";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    let sum = sent_sum(seal, raw.counter, was);
    statement.execute(params![raw.counter, raw.tbl, was, now, sum, before]).map(drop).map_err(translate)
}

fn sent_sum(seal: Seal, counter: i64, data: &str) -> i64 {
    seal.sum().int(counter).text(data).end()
}

fn upgrade_bases(session: &Session<'_>, upgrade: &Upgrade<'_>) -> Result<()> {
    let (db, seal) = (session.db, session.header.seal);
    for table in session.catalog.all() {
        let mut after = String::new();
        loop {
            let ids = base_ids(db, table.n, &after)?;
            let Some(last) = ids.last() else { break };
            after.clone_from(last);
            for id in ids.into_iter().filter_map(|id| RecordId::try_from(id).ok()) {
                let Ok(Some(base)) = queue::base(db, seal, table.n, id.as_str()) else { continue };
                if let Some(new) = upgrade.of(table.name(), &base) {
                    queue::set_base(db, seal, table.n, &id, Some(&new))?;
                }
            }
        }
    }
    Ok(())
}

fn base_ids(db: &Connection, n: i64, after: &str) -> Result<Vec<String>> {
    let sql = "SELECT id FROM dynos_base WHERE tbl = ? AND id > ? ORDER BY id LIMIT ?";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    let ids = statement.query_map(params![n, after, PAGE], |row| row.get(0)).map_err(translate)?;
    ids.collect::<rusqlite::Result<_>>().map_err(translate)
}

/// Gives entries that are sent again what they were sent with.
pub(crate) fn as_sent(session: &Session<'_>, groups: &mut [Vec<Entry>]) -> Result<()> {
    let mut any = session.db.prepare_cached("SELECT 1 FROM dynos_sent_as LIMIT 1").map_err(translate)?;
    if !any.exists([]).map_err(translate)? || is_on(Mutant::SentUpgraded) {
        return Ok(());
    }
    let answered =
        "DELETE FROM dynos_sent_as WHERE counter NOT IN (SELECT counter FROM dynos_queue WHERE sent = 1)";
    session.db.execute(answered, []).map_err(translate)?;
    for entry in groups.iter_mut().flatten().filter(|entry| entry.sent.is_some()) {
        if let (Some(was), Some(fields)) = (sent_with(session, entry)?, entry.edit.fields_mut()) {
            *fields = was;
        }
    }
    Ok(())
}

/// `None` where it is to be sent as it is: nothing was kept, or the entry is another one by now, or what was kept is damaged.
fn sent_with(session: &Session<'_>, entry: &Entry) -> Result<Option<Fields>> {
    let sql = "SELECT s.data, s.sum FROM dynos_sent_as AS s JOIN dynos_queue AS q ON q.counter = s.counter AND q.sum = s.now \
               WHERE s.counter = ?";
    let mut statement = session.db.prepare_cached(sql).map_err(translate)?;
    let counter = entry.counter as i64;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
    let kept = statement.query_row([counter], read).optional().map_err(translate)?;
    let intact = kept.filter(|(data, sum)| *sum == sent_sum(session.header.seal, counter, data));
    intact.map(|(data, _)| parse(&data)).transpose()
}
