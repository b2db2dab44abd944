//! `dynos queue`.

use dynos_sync::core::{Entry, Operation, Replica};
use serde_json::{Value, json};

use crate::{
    cli::QueueArgs,
    database,
    error::Failure,
    output::{Columns, Output},
    time,
};

pub(crate) async fn run(args: &QueueArgs, output: &Output) -> Result<(), Failure> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX >> 1);
    let (entries, pending) = database::with_tracked(&args.database, async |replica, _| {
        let entries = replica.queue(0, limit).await?;
        Ok((entries, replica.state().await?.pending))
    })
    .await?;
    let document = json!({
        "database": args.database.display().to_string(),
        "pending": pending,
        "entries": entries.iter().map(entry).collect::<Vec<_>>(),
    });
    output.result(&document, text(&entries))?;
    match pending.saturating_sub(entries.len() as u64) {
        0 => Ok(()),
        more => output.say(format_args!("and {more} more: see --limit")),
    }
}

fn entry(entry: &Entry) -> Value {
    json!({
        "counter": entry.counter,
        "table": entry.key.table.as_str(),
        "id": entry.key.id.as_str(),
        "operation": operation(entry.edit.operation()),
        "fields": entry.edit.fields(),
        "at": time::rfc3339(entry.at),
        "sent": entry.sent.is_some(),
        "attempts": entry.attempts,
        "retry_at": entry.retry_at.map(time::rfc3339),
        "transaction": entry.transaction,
    })
}

fn text(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "nothing waits\n".to_owned();
    }
    let mut columns = Columns::new(["counter", "record", "operation", "at", "transaction", "state"]);
    for entry in entries {
        let state = match (&entry.sent, entry.retry_at) {
            (_, Some(at)) => format!("refused {} times, waits until {}", entry.attempts, time::rfc3339(at)),
            (Some(_), None) => "sent, not answered".to_owned(),
            (None, None) => "waits".to_owned(),
        };
        columns.row([
            entry.counter.to_string(),
            entry.key.to_string(),
            operation(entry.edit.operation()).to_owned(),
            time::rfc3339(entry.at),
            entry.transaction.map_or_else(|| "-".to_owned(), |transaction| transaction.to_string()),
            state,
        ]);
    }
    columns.to_string()
}

/// The word for an operation.
pub(crate) fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Upsert => "upsert",
        Operation::Replace => "replace",
        Operation::Patch => "patch",
        Operation::Delete => "delete",
    }
}
