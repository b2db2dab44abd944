//! `dynos track`.

use dynos_sync::{
    core::{
        Replica, TableName, TableSpec,
        replica::{Existing, State, TableOptions},
    },
    sqlite::{Candidates, SqliteReplica},
};
use serde_json::{Value, json};

use crate::{
    cli::{ExistingArg, TrackArgs},
    config_file,
    connection::Connection,
    database,
    error::{Code, Failure},
    output::{Columns, Output},
    suggest::closest,
};

/// What became of a table.
struct Tracked {
    table: String,
    status: &'static str,
    reason: Option<String>,
}

pub(crate) async fn run(args: &TrackArgs, output: &Output) -> Result<(), Failure> {
    let connection = args.remember.then(|| Connection::resolve(&args.remote, &args.database)).transpose()?;
    let tracked = database::with(&args.database, async |replica| track(args, replica).await).await?;
    if let Some(connection) = &connection {
        connection.remember().await?;
    }
    print(args, output, &tracked)
}

async fn track(args: &TrackArgs, replica: &SqliteReplica) -> Result<Vec<Tracked>, Failure> {
    let (state, candidates) = (replica.state().await?, replica.candidates().await?);
    let names = if args.all {
        candidates.suitable.iter().map(|spec| spec.name.clone()).collect()
    } else {
        // All of them are looked up before the first is added.
        args.tables.iter().map(|name| find(name, &candidates, args.create)).collect::<Result<Vec<_>, _>>()?
    };
    let mut tracked = Vec::new();
    for name in names {
        tracked.push(add(args, replica, &state, name).await?);
    }
    if args.all {
        tracked.extend(candidates.unsuitable.into_iter().map(|(table, reason)| Tracked {
            table,
            status: "unsuitable",
            reason: Some(reason),
        }));
    }
    Ok(tracked)
}

/// The table's own spelling. SQLite does not tell cases apart, servers do.
fn find(name: &str, candidates: &Candidates, create: bool) -> Result<TableName, Failure> {
    let same = |spec: &&TableSpec| spec.name.as_str().eq_ignore_ascii_case(name);
    if let Some(spec) = candidates.suitable.iter().find(same) {
        return Ok(spec.name.clone());
    }
    if let Some((_, reason)) =
        candidates.unsuitable.iter().find(|(table, _)| table.eq_ignore_ascii_case(name))
    {
        return Err(Failure::new(Code::Invalid, reason.clone()));
    }
    let parsed: TableName = name.parse()?;
    if create {
        return Ok(parsed);
    }
    let failure = Failure::new(Code::NotFound, format!("there is no table {name}"));
    Err(match closest(name, candidates.suitable.iter().map(|spec| spec.name.as_str())) {
        Some(close) => failure.hint(format!("did you mean {close}?")),
        None => failure.hint("--create makes a table of documents"),
    })
}

async fn add(
    args: &TrackArgs,
    replica: &SqliteReplica,
    state: &State,
    name: TableName,
) -> Result<Tracked, Failure> {
    let known = state.table(&name);
    let policy = args.policy.applied_to(known.map(|table| table.policy.clone()).unwrap_or_default());
    let existing = match args.existing {
        ExistingArg::Push => Existing::Push,
        ExistingArg::Ignore => Existing::Ignore,
    };
    let options = TableOptions { policy, existing, ..TableOptions::new(name.clone()) };
    let changed = replica.add_table(options).await?;
    let status = match (known, changed) {
        (None, _) => "tracked",
        (Some(_), true) => "changed",
        (Some(_), false) => "already_tracked",
    };
    Ok(Tracked { table: name.as_str().to_owned(), status, reason: None })
}

fn print(args: &TrackArgs, output: &Output, tracked: &[Tracked]) -> Result<(), Failure> {
    let mut columns = Columns::new(["table", "status", "reason"]);
    let mut tables: Vec<Value> = Vec::new();
    for Tracked { table, status, reason } in tracked {
        columns.row([table.clone(), status.replace('_', " "), reason.clone().unwrap_or_default()]);
        tables.push(json!({"table": table, "status": status, "reason": reason}));
    }
    let document = json!({
        "database": args.database.display().to_string(),
        "tables": tables,
        "remembered": args.remember,
    });
    if !tracked.iter().any(|table| table.status != "unsuitable") {
        output.note("there is no table that can be synced: nothing was done");
    }
    output.result(&document, if columns.is_empty() { String::new() } else { columns.to_string() })?;
    if args.remember {
        output.say(format_args!("remembered in {}", config_file::path(&args.database).display()))?;
    }
    Ok(())
}
