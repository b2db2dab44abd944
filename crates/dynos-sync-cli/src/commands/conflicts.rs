//! `dynos conflicts`.

use std::fmt::Write;

use dynos_sync::core::{
    Fields, Replica, Value as Json,
    replica::{Journaled, Resolved},
};
use serde_json::{Value, json};

use crate::{
    cli::{ConflictAction, ConflictsArgs},
    database,
    error::Failure,
    offline,
    output::{Columns, Output, plain},
    time,
};

pub(crate) async fn run(args: &ConflictsArgs, output: &Output) -> Result<(), Failure> {
    let (document, text) = database::with_tracked(&args.database, async |replica, _| {
        Ok(match args.action {
            ConflictAction::List => {
                let conflicts = replica.conflicts(i64::MAX, usize::MAX >> 1).await?;
                (json!({"conflicts": conflicts.iter().map(summary).collect::<Vec<_>>()}), list(&conflicts))
            }
            ConflictAction::Show { id } => {
                let conflict = offline::driver(replica).await?.conflict(id).await?;
                (versions(&conflict), show(&conflict))
            }
            ConflictAction::Discard { id } => {
                offline::driver(replica).await?.discard_conflict(id).await?;
                (json!({"discarded": id}), format!("{id} is forgotten\n"))
            }
            ConflictAction::Undo { id } => {
                offline::driver(replica).await?.undo_conflict(id).await?;
                (
                    json!({"undone": id}),
                    "the other version is back: it goes with the next dynos sync\n".to_owned(),
                )
            }
        })
    })
    .await?;
    output.result(&document, text)
}

/// Where a record would be named.
const UNREADABLE: &str = "(cannot be read any more: discard it)";

fn summary(conflict: &Journaled) -> Value {
    let Some(resolved) = &conflict.resolved else { return json!({"id": conflict.id, "unreadable": true}) };
    let Resolved { key, strategy, decided_at, .. } = resolved;
    json!({
        "id": conflict.id,
        "table": key.table.as_str(),
        "record_id": key.id.as_str(),
        "strategy": strategy.as_str(),
        "kept": kept(resolved),
        "decided_at": time::rfc3339(*decided_at),
    })
}

fn versions(conflict: &Journaled) -> Value {
    let mut document = summary(conflict);
    let Some(Resolved { base, mine, theirs, outcome, .. }) = &conflict.resolved else { return document };
    document["base"] = json!(base);
    document["local"] = json!(mine);
    document["remote"] = json!(theirs);
    document["outcome"] = json!(outcome);
    document
}

fn kept(resolved: &Resolved) -> &'static str {
    if resolved.outcome == resolved.mine {
        "local"
    } else if resolved.outcome == resolved.theirs {
        "remote"
    } else {
        "merged"
    }
}

fn list(conflicts: &[Journaled]) -> String {
    if conflicts.is_empty() {
        return "there were no conflicts\n".to_owned();
    }
    let mut columns = Columns::new(["id", "record", "kept", "strategy", "decided"]);
    for Journaled { id, resolved } in conflicts {
        let Some(resolved) = resolved else {
            columns.row([
                id.to_string(),
                UNREADABLE.to_owned(),
                "-".to_owned(),
                "-".to_owned(),
                "-".to_owned(),
            ]);
            continue;
        };
        columns.row([
            id.to_string(),
            resolved.key.to_string(),
            kept(resolved).to_owned(),
            resolved.strategy.as_str().to_owned(),
            time::rfc3339(resolved.decided_at),
        ]);
    }
    columns.to_string()
}

/// The fields in which the versions differ, side by side.
fn show(conflict: &Journaled) -> String {
    let Some(resolved) = &conflict.resolved else { return format!("{UNREADABLE}\n") };
    let Resolved { key, base, mine, theirs, outcome, strategy, decided_at, .. } = resolved;
    let sides = [base, mine, theirs, outcome];
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = writeln!(
        text,
        "{}, decided by {} at {}\n",
        plain(&key.to_string()),
        strategy.as_str(),
        time::rfc3339(*decided_at)
    );
    let mut names: Vec<&String> =
        sides.iter().filter_map(|side| side.as_ref()).flat_map(Fields::keys).collect();
    names.sort();
    names.dedup();
    let mut columns = Columns::new(["field", "base", "local", "remote", "outcome"]);
    columns.row(["(record)".to_owned(), there(base), there(mine), there(theirs), there(outcome)]);
    for name in names {
        let [base, mine, theirs, outcome] =
            sides.map(|side| side.as_ref().and_then(|fields| fields.get(name)));
        if base == mine && mine == theirs {
            continue;
        }
        columns.row([name.clone(), cell(base), cell(mine), cell(theirs), cell(outcome)]);
    }
    let _ = write!(text, "{columns}");
    text
}

fn there(side: &Option<Fields>) -> String {
    if side.is_some() { "exists" } else { "missing" }.to_owned()
}

fn cell(value: Option<&Json>) -> String {
    const LONGEST: usize = 40;
    let Some(value) = value else { return "-".to_owned() };
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}
