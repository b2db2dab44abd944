//! `dynos untrack`.

use std::collections::BTreeMap;

use dynos_sync::{
    core::{Counter, Replica, TableName, replica::State},
    sqlite::SqliteReplica,
};
use serde_json::json;

use crate::{
    cli::UntrackArgs,
    config_file::Remembered,
    database,
    error::{Code, Failure},
    output::{Output, count},
    suggest::closest,
};

pub(crate) async fn run(args: &UntrackArgs, output: &Output) -> Result<(), Failure> {
    let removed = database::with_tracked(&args.database, async |replica, state| {
        let names = names(args, &state)?;
        if !args.discard {
            must_be_synced(replica, &names).await?;
        }
        for name in &names {
            replica.remove_table(name).await?;
        }
        Ok(names)
    })
    .await?;
    let forgotten = args.all && Remembered::forget(&args.database)?;
    let names: Vec<&str> = removed.iter().map(TableName::as_str).collect();
    let text: String = names.iter().map(|name| format!("{name} is no longer synced\n")).collect();
    let document =
        json!({"database": args.database.display().to_string(), "untracked": names, "forgotten": forgotten});
    output.result(&document, text)?;
    if forgotten { output.say("the server and the token are forgotten") } else { Ok(()) }
}

fn names(args: &UntrackArgs, state: &State) -> Result<Vec<TableName>, Failure> {
    let tracked = || state.tables.iter().map(|table| &table.spec.name);
    if args.all {
        return Ok(tracked().cloned().collect());
    }
    let find = |name: &String| {
        let found = tracked().find(|table| table.as_str().eq_ignore_ascii_case(name));
        found.cloned().ok_or_else(|| {
            let failure = Failure::new(Code::NotTracked, format!("table {name} is not synced"));
            match closest(name, tracked().map(TableName::as_str)) {
                Some(close) => failure.hint(format!("did you mean {close}?")),
                None => failure,
            }
        })
    };
    args.tables.iter().map(find).collect()
}

/// Refuses where changes of these tables would be lost.
async fn must_be_synced(replica: &SqliteReplica, names: &[TableName]) -> Result<(), Failure> {
    let waiting = waiting(replica).await?;
    let changes: u64 = names.iter().filter_map(|name| waiting.get(name)).sum();
    if changes == 0 {
        return Ok(());
    }
    Err(Failure::new(Code::Unsynced, format!("{} would never be synced", count(changes, "change")))
        .hint("run dynos sync first, or give them up with --discard; the rows stay in any case"))
}

/// How many changes and dead letters each table has.
async fn waiting(replica: &SqliteReplica) -> Result<BTreeMap<TableName, u64>, Failure> {
    const PAGE: usize = 1000;
    let mut waiting = BTreeMap::new();
    let mut after: Counter = 0;
    loop {
        let page = replica.queue(after, PAGE).await?;
        for entry in &page {
            after = entry.counter;
            *waiting.entry(entry.key.table.clone()).or_default() += 1;
        }
        if page.len() < PAGE {
            break;
        }
    }
    let mut after = 0;
    loop {
        let page = replica.dead_letters(after, PAGE).await?;
        for letter in &page {
            after = letter.id;
            *waiting.entry(letter.key.table.clone()).or_default() += 1;
        }
        if page.len() < PAGE {
            return Ok(waiting);
        }
    }
}
