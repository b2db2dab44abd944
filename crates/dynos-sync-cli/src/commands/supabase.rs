//! `dynos supabase`: what a project's database needs.

use std::{fs::OpenOptions, io, io::Write, path::Path};

use dynos_sync_sql::{Tracked, migration};
use serde_json::json;

use crate::{
    cli::{SupabaseAction, SupabaseArgs, SupabaseInitArgs},
    error::{Code, Failure},
    output::Output,
};

pub(crate) fn run(args: &SupabaseArgs, output: &Output) -> Result<(), Failure> {
    let SupabaseAction::Init(args) = &args.action;
    let sql = migration(&tables(args)?);
    match &args.output {
        None => output.result(&json!({"sql": sql}), sql),
        Some(path) => {
            write(path, &sql)?;
            let document = json!({"written": path.display().to_string()});
            let next = "run it with `supabase db push`, or in the project's SQL editor";
            output.result(&document, format_args!("written to {}: {next}\n", path.display()))
        }
    }
}

fn tables(args: &SupabaseInitArgs) -> Result<Vec<Tracked>, Failure> {
    let owned = args.tables.iter().map(|table| (table, Some(args.owner_column.clone())));
    let shared = args.shared.iter().map(|table| (table, None));
    let mut tables: Vec<Tracked> = Vec::new();
    for (table, owner) in owned.chain(shared) {
        let table = table.trim();
        if table.is_empty() || tables.iter().any(|known| known.table == table) {
            let message = format!("the table {table:?} is empty or named twice");
            return Err(Failure::new(Code::Usage, message).hint("name each table once: --tables tasks,notes"));
        }
        tables.push(Tracked { table: table.to_owned(), owner });
    }
    Ok(tables)
}

/// Never over another file.
fn write(path: &Path, sql: &str) -> Result<(), Failure> {
    let made = OpenOptions::new().write(true).create_new(true).open(path);
    let written = made.and_then(|mut file| file.write_all(sql.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(Code::Exists, format!("{}: the file exists", path.display())).hint("name a new file")
        }
        _ => Failure::file(path, &error),
    })
}
