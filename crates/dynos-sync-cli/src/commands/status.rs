//! `dynos status`.

use std::fmt::Write;

use dynos_sync::core::{
    Cursor, Shape,
    replica::{Phase, State, TableState},
};
use serde_json::{Value, json};

use crate::{
    cli::DatabaseArgs,
    config_file::Remembered,
    database::{self, Quarantined},
    error::Failure,
    output::{Columns, Output},
    time,
};

pub(crate) async fn run(args: &DatabaseArgs, output: &Output) -> Result<(), Failure> {
    let (state, aside) = database::with_tracked(&args.database, async |replica, state| {
        let aside = if state.quarantined > 0 { database::quarantine(replica).await? } else { Vec::new() };
        Ok((state, aside))
    })
    .await?;
    let remembered = Remembered::load(&args.database)?;
    let name = args.database.display().to_string();
    let document = document(&name, &state, &aside, remembered.as_ref());
    output.result(&document, text(&state, &aside, remembered.as_ref()))
}

fn document(name: &str, state: &State, aside: &[Quarantined], remembered: Option<&Remembered>) -> Value {
    let kept_aside = |row: &Quarantined| json!({"table": row.table, "record_id": row.id, "error": row.error});
    json!({
        "database": name,
        "replica": state.replica.to_string(),
        "server": state.server,
        "remote": remembered.map(|known| &known.remote),
        "token_remembered": remembered.is_some_and(Remembered::signs_in),
        "pending": state.pending,
        "dead_letters": state.dead_letters,
        "conflicts": state.conflicts,
        "quarantined": state.quarantined,
        "quarantine": aside.iter().map(kept_aside).collect::<Vec<_>>(),
        "tables": state.tables.iter().map(table).collect::<Vec<_>>(),
    })
}

fn table(table: &TableState) -> Value {
    json!({
        "table": table.spec.name.as_str(),
        "kind": kind(table),
        "phase": phase(table),
        "pull": table.policy.pull,
        "declared": table.declared,
        "cursor": table.cursor.as_ref().map(Cursor::as_str),
        "synced_at": table.synced_at.map(time::rfc3339),
        "sensitive_fields": table.policy.sensitive_fields,
        "owner_columns": table.policy.owner_columns,
        "user": table.policy.user,
    })
}

fn kind(table: &TableState) -> &'static str {
    match table.spec.shape {
        Shape::Document => "document",
        Shape::Columns { .. } => "columns",
    }
}

/// The word for what pulling a table means.
pub(super) fn phase(table: &TableState) -> &'static str {
    match table.phase {
        Phase::First => "first",
        Phase::Following => "following",
        Phase::Resync => "resync",
        Phase::Restore { .. } => "restore",
    }
}

fn text(state: &State, aside: &[Quarantined], remembered: Option<&Remembered>) -> String {
    let remote = remembered.map_or("not remembered", |known| known.remote.as_str());
    let server = state.server.as_deref().unwrap_or("not met yet");
    let mut text = String::new();
    for (name, value) in [
        ("remote", remote.to_owned()),
        ("server", server.to_owned()),
        ("replica", state.replica.to_string()),
        ("pending", state.pending.to_string()),
        ("dead letters", state.dead_letters.to_string()),
        ("conflicts", state.conflicts.to_string()),
        ("quarantined", state.quarantined.to_string()),
    ] {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{name:<13} {}", crate::output::plain(&value));
    }
    let mut columns = Columns::new(["table", "kind", "phase", "synced"]);
    for table in &state.tables {
        let synced = table.synced_at.map_or_else(|| "never".to_owned(), time::rfc3339);
        let (phase, synced) =
            if table.policy.pull { (phase(table), synced) } else { ("push only", "-".to_owned()) };
        columns.row([table.spec.name.to_string(), kind(table).to_owned(), phase.to_owned(), synced]);
    }
    let mut refused = Columns::new(["kept aside", "the local table refuses it"]);
    for Quarantined { table, id, error } in aside {
        refused.row([format!("{table}/{id}"), error.clone()]);
    }
    for columns in [columns, refused].iter().filter(|columns| !columns.is_empty()) {
        let _ = write!(text, "\n{columns}");
    }
    text
}
