//! Adding and removing tables, and logging out.

use dynos_sync_core::{
    TableName, TableSpec,
    replica::{Existing, Logout, Phase, TableOptions},
    sabotage::{Mutant, is_on},
};

use crate::{
    capture, collect, columns, create,
    describe::{Description, describe},
    error::{Result, damaged, of_theirs, translate},
    header::Header,
    listing::{self, Listed},
    rows,
    session::Session,
    sql::ident,
    sum::Seal,
    table::Table,
    transaction,
};

pub(crate) fn add_table(session: &mut Session<'_>, options: &TableOptions) -> Result<bool> {
    if let Ok(table) = session.catalog.named(&options.name) {
        if table.policy == options.policy {
            return Ok(false);
        }
        let policy = [json(&options.policy)?];
        listing::change(session.db, session.header.seal, table.n, "policy = ?", policy)?;
        session.header.layout += 1;
        return Ok(true);
    }
    let table = register(session, options)?;
    match options.existing {
        Existing::Push => capture::note_existing(session.db, &table)?,
        Existing::Ignore => rows::for_each_id(session.db, &table, |id| session.keep_local(table.n, &id))?,
    }
    Ok(true)
}

/// Begins to sync a table. Nothing is done about its rows.
pub(crate) fn register(session: &mut Session<'_>, options: &TableOptions) -> Result<Table> {
    let description = match describe(session.db, &options.name)? {
        Some(description) => description,
        None => create_table(session, options)?,
    };
    let n: i64 = session
        .db
        .query_row("SELECT coalesce(max(n), 0) + 1 FROM dynos_table", [], |row| row.get(0))
        .map_err(translate)?;
    let mut table = Table::new(n, description, options.policy.clone(), Vec::new());
    table.captured = table.column_names();
    let new = Listed {
        n,
        name: options.name.as_str().to_owned(),
        spec: json(&table.spec)?,
        policy: json(&table.policy)?,
        captured: json(&table.captured)?,
        cursor: None,
        ahead: None,
        phase: json(&Phase::First)?,
        declared: false,
        synced_at: None,
        left_out: None,
        gained: None,
    };
    listing::add(session.db, session.header.seal, &new)?;
    let forget = "DELETE FROM dynos_former WHERE name = ?";
    session.db.execute(forget, [options.name.as_str()]).map_err(translate)?;
    capture::install(session.db, &table)?;
    session.header.layout += 1;
    Ok(table)
}

fn create_table(session: &Session<'_>, options: &TableOptions) -> Result<Description> {
    let spec = options.create.clone().unwrap_or_else(|| TableSpec::document(options.name.clone()));
    for statement in create::statements(&spec)? {
        session.db.execute_batch(&statement).map_err(of_theirs)?;
    }
    describe(session.db, &options.name)?.ok_or_else(|| damaged("table", "was not made"))
}

/// Brings the triggers and the declaration of tables up to date whose columns or indexes have changed.
pub(crate) fn refresh(session: &mut Session<'_>) -> Result<()> {
    // What was noted under the old columns is read under the old columns.
    collect::collect(session)?;
    let outdated: Vec<_> = session.catalog.all().filter(|table| table.outdated).cloned().collect();
    for table in outdated {
        columns::note_gained(session, &table)?;
        capture::install(session.db, &table)?;
        let values = [json(&table.spec)?, json(&table.column_names())?];
        let set = "spec = ?, captured = ?, declared = 0";
        listing::change(session.db, session.header.seal, table.n, set, values)?;
        session.header.layout += 1;
    }
    Ok(())
}

pub(crate) fn remove_table(session: &mut Session<'_>, name: &TableName) -> Result<bool> {
    let find = "SELECT n FROM dynos_table WHERE name = ?";
    let mut statement = session.db.prepare(find).map_err(translate)?;
    let found: Vec<i64> = statement
        .query_map([name.as_str()], |row| row.get(0))
        .and_then(Iterator::collect)
        .map_err(translate)?;
    let Some(n) = found.first() else { return Ok(false) };
    capture::remove(session.db, *n)?;
    let note = "INSERT OR IGNORE INTO dynos_former (name) VALUES (?)";
    session.db.execute(note, [name.as_str()]).map_err(translate)?;
    for (table, column) in ENGINE_TABLES {
        session.db.execute(&format!("DELETE FROM {table} WHERE {column} = ?"), [n]).map_err(translate)?;
    }
    session.header.pending =
        session.db.query_row("SELECT count(*) FROM dynos_queue", [], |row| row.get(0)).map_err(translate)?;
    session.header.layout += 1;
    transaction::unblock_all(session.db)?;
    Ok(true)
}

/// The engine's tables that hold something of a synced table, and the column that says of which.
const ENGINE_TABLES: [(&str, &str); 10] = [
    ("dynos_queue", "tbl"),
    ("dynos_base", "tbl"),
    ("dynos_sent_as", "tbl"),
    ("dynos_dead", "tbl"),
    ("dynos_conflict", "tbl"),
    ("dynos_seen", "tbl"),
    ("dynos_quarantine", "tbl"),
    ("dynos_local", "tbl"),
    ("dynos_log", "tbl"),
    ("dynos_table", "n"),
];

/// Forgets the user. The file still has to be scrubbed afterwards, see [`Header::scrub`].
pub(crate) fn logout(session: &mut Session<'_>, discard: bool) -> Result<Logout> {
    let dead: i64 =
        session.db.query_row("SELECT count(*) FROM dynos_dead", [], |row| row.get(0)).map_err(translate)?;
    let changes = (session.header.pending + dead) as u64;
    if changes > 0 && !discard {
        return Ok(Logout::Unsynced { changes });
    }
    session.set_capture(false)?;
    for table in session.catalog.all() {
        // Without triggers SQLite empties a table at once. Row by row it would keep all old pages meanwhile, in a temporary file.
        capture::remove(session.db, table.n)?;
        let sql = format!("DELETE FROM {}", ident(table.name().as_str()));
        session.db.execute_batch(&sql).map_err(of_theirs)?;
        capture::install(session.db, table)?;
        let mut policy = table.policy.clone();
        policy.user = None;
        listing::change(session.db, session.header.seal, table.n, "policy = ?", [json(&policy)?])?;
    }
    if !is_on(Mutant::LogoutKeepsFormer) {
        clear_former(session)?;
    }
    for (table, _) in ENGINE_TABLES.iter().filter(|(table, _)| *table != "dynos_table") {
        if is_on(Mutant::LogoutKeepsQueue) && *table == "dynos_queue" {
            continue;
        }
        session.db.execute_batch(&format!("DELETE FROM {table}")).map_err(translate)?;
    }
    let sql = "UPDATE dynos_table SET cursor = NULL, ahead = NULL, phase = ?, synced_at = NULL, declared = 0, left_out = NULL, gained = NULL";
    session.db.execute(sql, [json(&Phase::First)?]).map_err(translate)?;
    let seal = Seal::draw(session.random)?;
    listing::seal_all(session.db, seal)?;
    let layout = session.header.layout + 1;
    session.header = Header {
        replica: session.random.replica_id()?,
        file: session.header.file.clone(),
        generation: session.header.generation + 1,
        server: None,
        clock: 0,
        last_counter: 0,
        last_sent: 0,
        pending: 0,
        layout,
        scrub: true,
        fresh: 0,
        schema: session.header.schema,
        seal,
    };
    Ok(Logout::Done { discarded: changes })
}

/// Empties the tables that this user has stopped syncing.
fn clear_former(session: &Session<'_>) -> Result<()> {
    let sql = "SELECT f.name FROM dynos_former f JOIN sqlite_schema s ON s.type = 'table' AND s.name = f.name COLLATE NOCASE";
    let mut statement = session.db.prepare(sql).map_err(translate)?;
    let names: Vec<String> =
        statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(translate)?;
    for name in names {
        session.db.execute_batch(&format!("DELETE FROM {}", ident(&name))).map_err(of_theirs)?;
    }
    session.db.execute_batch("DELETE FROM dynos_former").map_err(translate)
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| damaged("catalogue", error))
}
