//! `dynos_table`: what is kept of each synced table, under a sum. A cursor with one digit changed would pass over rows for
//! ever, and nobody would know.

use rusqlite::{Connection, Params, Row, params};

use crate::{
    error::{Result, damaged, translate},
    sum::Seal,
};

/// A row, as it stands there.
pub(crate) struct Listed {
    pub(crate) n: i64,
    pub(crate) name: String,
    pub(crate) spec: String,
    pub(crate) policy: String,
    pub(crate) captured: String,
    pub(crate) cursor: Option<String>,
    pub(crate) ahead: Option<String>,
    pub(crate) phase: String,
    pub(crate) declared: bool,
    pub(crate) synced_at: Option<i64>,
    pub(crate) left_out: Option<String>,
    pub(crate) gained: Option<String>,
}

const COLUMNS: &str =
    "n, name, spec, policy, captured, cursor, ahead, phase, declared, synced_at, left_out, gained, sum";

impl Listed {
    fn read(row: &Row<'_>) -> rusqlite::Result<(Self, i64)> {
        let listed = Self {
            n: row.get(0)?,
            name: row.get(1)?,
            spec: row.get(2)?,
            policy: row.get(3)?,
            captured: row.get(4)?,
            cursor: row.get(5)?,
            ahead: row.get(6)?,
            phase: row.get(7)?,
            declared: row.get(8)?,
            synced_at: row.get(9)?,
            left_out: row.get(10)?,
            gained: row.get(11)?,
        };
        Ok((listed, row.get(12)?))
    }

    fn sum(&self, seal: Seal) -> i64 {
        let Self {
            n,
            name,
            spec,
            policy,
            captured,
            cursor,
            ahead,
            phase,
            declared,
            synced_at,
            left_out,
            gained,
        } = self;
        let fixed = seal.sum().int(*n).text(name).text(spec).text(policy).text(captured);
        let moving = fixed.maybe(cursor.as_deref()).maybe(ahead.as_deref()).text(phase);
        let moving = moving.int((*declared).into()).int(synced_at.unwrap_or(-1));
        // In a file of before there were any, they are no part of the sum.
        let lists = [(1, left_out), (2, gained)]
            .into_iter()
            .filter_map(|(which, list)| Some((which, list.as_ref()?)));
        lists.fold(moving, |sum, (which, list)| sum.int(which).text(list)).end()
    }
}

fn find(db: &Connection, rest: &str, values: impl Params) -> Result<Vec<(Listed, i64)>> {
    let mut statement =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM dynos_table {rest}")).map_err(translate)?;
    let rows = statement.query_map(values, Listed::read).map_err(translate)?;
    rows.collect::<rusqlite::Result<_>>().map_err(translate)
}

fn checked(seal: Seal, (listed, sum): (Listed, i64)) -> Result<Listed> {
    if listed.sum(seal) == sum {
        return Ok(listed);
    }
    Err(damaged("dynos_table", format_args!("table {} is not as it was written", listed.n)))
}

/// All synced tables, in the order in which they were added.
pub(crate) fn all(db: &Connection, seal: Seal) -> Result<Vec<Listed>> {
    let found = find(db, "ORDER BY n", [])?;
    // A page in the place of another: one copy would be read, and the other changed.
    if found.windows(2).any(|pair| pair[0].0.n >= pair[1].0.n) {
        return Err(damaged("dynos_table", "it has a table twice"));
    }
    found.into_iter().map(|found| checked(seal, found)).collect()
}

/// One table that is known to be synced.
pub(crate) fn one(db: &Connection, seal: Seal, n: i64) -> Result<Listed> {
    match find(db, "WHERE n = ?", [n])?.pop() {
        Some(found) => checked(seal, found),
        None => Err(damaged("dynos_table", format_args!("table {n} is gone"))),
    }
}

/// Begins to keep something of a table.
pub(crate) fn add(db: &Connection, seal: Seal, new: &Listed) -> Result<()> {
    let sql =
        "INSERT INTO dynos_table (n, name, spec, policy, captured, phase, sum) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let values = params![new.n, new.name, new.spec, new.policy, new.captured, new.phase, new.sum(seal)];
    db.execute(sql, values).map(drop).map_err(translate)
}

/// Changes what is kept of a table: `set` is a part of an `UPDATE`. What is damaged is not taken over.
pub(crate) fn change(db: &Connection, seal: Seal, n: i64, set: &str, values: impl Params) -> Result<()> {
    one(db, seal, n)?;
    let sql = format!("UPDATE dynos_table SET {set} WHERE n = {n}");
    db.prepare_cached(&sql).and_then(|mut statement| statement.execute(values)).map_err(translate)?;
    self::seal(db, seal, n)
}

/// Gives all tables sums of another session.
pub(crate) fn seal_all(db: &Connection, seal: Seal) -> Result<()> {
    find(db, "ORDER BY n", [])?.iter().try_for_each(|(listed, _)| self::seal(db, seal, listed.n))
}

fn seal(db: &Connection, seal: Seal, n: i64) -> Result<()> {
    for (listed, _) in find(db, "WHERE n = ?", [n])? {
        let mut statement =
            db.prepare_cached("UPDATE dynos_table SET sum = ? WHERE n = ?").map_err(translate)?;
        statement.execute([listed.sum(seal), n]).map_err(translate)?;
    }
    Ok(())
}
