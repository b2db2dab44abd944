//! `dynos import-dart`.

use dynos_sync::{
    core::{
        Replica, TableName,
        replica::{State, TablePolicy},
    },
    sqlite::TakenOver,
};
use serde_json::json;

use crate::{
    cli::ImportDartArgs,
    database,
    error::{Code, Failure},
    output::{Output, count, plain},
};

pub(crate) async fn run(args: &ImportDartArgs, output: &Output) -> Result<(), Failure> {
    let TakenOver { tables, records, left } = database::with(&args.database, async |replica| {
        let policy = args.policy.applied_to(policy(&replica.state().await?)?);
        Ok(replica.take_over_from_dart(&policy).await?)
    })
    .await?;
    let names: Vec<&str> = tables.iter().map(TableName::as_str).collect();
    let document = json!({
        "database": args.database.display().to_string(),
        "tables": names,
        "queued": records,
        "left": left.iter().map(|left| json!({"entry": left.entry, "problem": left.problem})).collect::<Vec<_>>(),
    });
    let mut text: String = names.iter().map(|name| format!("{name} is synced now\n")).collect();
    text += &format!("queued: {} with changes that were not pushed\n", count(records as u64, "record"));
    text.extend(left.iter().map(|left| format!("left: {} ({})\n", plain(&left.entry), plain(&left.problem))));
    output.result(&document, text)?;
    if left.is_empty() {
        return Ok(());
    }
    let left = count(left.len() as u64, "change");
    Err(Failure::new(
        Code::Incomplete,
        format!("{left} could not be taken over, and stay in dynos_sync_queue"),
    )
    .hint("put right what is said of each, and call it again; or write those records anew"))
}

/// How the tables are synced that are so already, by an earlier call say: to take over again must not unmask a field.
fn policy(state: &State) -> Result<TablePolicy, Failure> {
    let mut policies = state.tables.iter().map(|table| &table.policy);
    let first = policies.next().cloned().unwrap_or_default();
    if policies.all(|policy| *policy == first) {
        return Ok(first);
    }
    Err(Failure::new(Code::Invalid, "the database's tables are synced in different ways")
        .hint("take over before other tables are tracked"))
}
