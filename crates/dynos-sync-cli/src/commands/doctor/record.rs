//! One record, explained.

use std::{fmt::Write, path::Path};

use dynos_sync::core::{
    Cursor, Edit, Entry, Fields, Millis, Value,
    doctor::{Conclusion, Explanation, Local},
    json,
    replica::{DeadLetter, Journaled, TableState},
};

use crate::{
    commands::{queue::operation, status},
    output::{Columns, count, plain},
    time,
};

/// The command that does what has to be done, where there is one.
pub(super) fn command(explanation: &Explanation, database: &Path) -> Option<String> {
    let database = plain(&database.display().to_string());
    match &explanation.conclusion {
        Conclusion::NotTracked => {
            Some(format!("dynos track {database} {}", plain(explanation.key.table.as_str())))
        }
        Conclusion::SignedOut { .. }
        | Conclusion::Refused { .. }
        | Conclusion::Walking
        | Conclusion::Unanswered
        | Conclusion::Failing { .. }
        | Conclusion::Waiting
        | Conclusion::Noted { .. }
        | Conclusion::Pulling
        | Conclusion::Damaged { .. } => Some(format!("dynos sync {database}")),
        Conclusion::DeadLetter { letter, .. } => {
            Some(format!("dynos dead-letters {database} retry {letter}"))
        }
        _ => None,
    }
}

pub(super) fn document(database: &Path, explanation: &Explanation, command: Option<&str>) -> Value {
    let Explanation { key, conclusion, local, .. } = explanation;
    let fields = match local {
        Local::Changed(fields) => fields.as_slice(),
        _ => &[],
    };
    json!({
        "database": database.display().to_string(),
        "table": key.table.as_str(),
        "id": key.id.as_str(),
        "conclusion": conclusion.word(),
        "synced": conclusion.is_synced(),
        "sentence": conclusion.to_string(),
        "remedy": conclusion.remedy(),
        "command": command,
        "row": {"state": local.word(), "fields": fields},
        "tracked": explanation.table.as_ref().map(tracked),
        "pending": explanation.pending.iter().map(pending).collect::<Vec<_>>(),
        "noted": explanation.noted.map(|noted| json!({"changes": noted.changes, "at": time::rfc3339(noted.at)})),
        "last_answer": explanation.last_answer.as_ref().map(|answer| {
            json!({"at": time::rfc3339(answer.at), "error": answer.error})
        }),
        "next_attempt": explanation.next_attempt.map(time::rfc3339),
        "dead_letters": explanation.letters.iter().map(letter).collect::<Vec<_>>(),
        "conflicts": explanation.conflicts.iter().filter_map(conflict).collect::<Vec<_>>(),
        "quarantine": explanation.quarantine,
    })
}

fn tracked(table: &TableState) -> Value {
    json!({
        "phase": status::phase(table),
        "pull": table.policy.pull,
        "declared": table.declared,
        "synced_at": table.synced_at.map(time::rfc3339),
        "sensitive_fields": table.policy.sensitive_fields,
        "owner_columns": table.policy.owner_columns,
        "user": table.policy.user,
    })
}

/// The names of the fields, and none of their values.
fn names(edit: &Edit) -> Vec<&String> {
    edit.fields().into_iter().flat_map(Fields::keys).collect()
}

fn pending(entry: &Entry) -> Value {
    json!({
        "counter": entry.counter,
        "operation": operation(entry.edit.operation()),
        "fields": names(&entry.edit),
        "at": time::rfc3339(entry.at),
        "sent": entry.sent.is_some(),
        "base": entry.sent.as_ref().and_then(|sent| sent.base.as_ref()).map(Cursor::as_str),
        "attempts": entry.attempts,
        "retry_at": entry.retry_at.map(time::rfc3339),
        "transaction": entry.transaction,
    })
}

fn letter(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "code": letter.code,
        "message": letter.message,
        "at": time::rfc3339(letter.at),
        "edits": letter.edits.len(),
        "transaction": letter.transaction,
    })
}

fn conflict(journaled: &Journaled) -> Option<Value> {
    let resolved = journaled.resolved.as_ref()?;
    let decided_at = time::rfc3339(resolved.decided_at);
    Some(json!({"id": journaled.id, "strategy": resolved.strategy.as_str(), "decided_at": decided_at}))
}

pub(super) fn text(explanation: &Explanation, command: Option<&str>) -> String {
    let Explanation { key, conclusion, .. } = explanation;
    let mut text = format!("{}: {}\n", plain(&key.to_string()), plain(&conclusion.to_string()));
    let mut line = |name: &str, value: &str| {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{name:<13} {}", plain(value));
    };
    if !conclusion.is_synced() {
        line("what to do", conclusion.remedy());
    }
    if let Some(command) = command {
        line("command", command);
    }
    let Some(table) = &explanation.table else { return text };
    line("row", &row(&explanation.local));
    line("table", &how(table));
    if let Some(noted) = explanation.noted {
        line("noted", &format!("{}, last: {}", count(noted.changes, "change"), when(noted.at)));
    }
    if let Some(answer) = &explanation.last_answer {
        line("last answer", &format!("{}, at {}", answer.error, time::rfc3339(answer.at)));
    }
    if !explanation.pending.is_empty() {
        let next = explanation.next_attempt.map_or_else(|| "with the next sync".to_owned(), time::rfc3339);
        line("next attempt", &next);
    }
    if let Some(error) = &explanation.quarantine {
        line("kept aside", error);
    }
    for letter in &explanation.letters {
        line("dead letter", &format!("{}: {}: {}", letter.id, letter.code, letter.message));
    }
    for journaled in &explanation.conflicts {
        let Some(resolved) = &journaled.resolved else { continue };
        let (strategy, at) = (resolved.strategy.as_str(), time::rfc3339(resolved.decided_at));
        line("conflict", &format!("{}: decided by {strategy} at {at}", journaled.id));
    }
    let mut columns = Columns::new(["pending", "operation", "fields", "at", "state"]);
    for entry in &explanation.pending {
        let fields: Vec<&str> = names(&entry.edit).into_iter().map(String::as_str).collect();
        columns.row([
            entry.counter.to_string(),
            operation(entry.edit.operation()).to_owned(),
            fields.join(", "),
            when(entry.at),
            stands(entry),
        ]);
    }
    if !columns.is_empty() {
        let _ = write!(text, "\n{columns}");
    }
    text
}

/// A time, for people. Rows that were there before their table was synced have none.
fn when(at: Millis) -> String {
    if at > 0 { time::rfc3339(at) } else { "before its table was synced".to_owned() }
}

fn row(local: &Local) -> String {
    match local {
        Local::Missing => "there is none".to_owned(),
        Local::Same => "as the server had it last, as far as this device knows".to_owned(),
        Local::Touched => "changed here by another program".to_owned(),
        Local::Created => "made here".to_owned(),
        Local::Deleted => "deleted here".to_owned(),
        Local::Changed(fields) => format!("changed here: {}", fields.join(", ")),
    }
}

fn how(table: &TableState) -> String {
    let synced = table.synced_at.map_or_else(|| "never".to_owned(), time::rfc3339);
    match table.policy.pull {
        true => format!("{}, pulled to the end: {synced}", status::phase(table)),
        false => "only sent from this device".to_owned(),
    }
}

fn stands(entry: &Entry) -> String {
    let stands = match (&entry.sent, entry.attempts) {
        (Some(_), _) => "sent, not answered".to_owned(),
        (None, 0) => "not sent".to_owned(),
        (None, attempts) => format!("refused, attempts: {attempts}"),
    };
    match entry.transaction {
        Some(transaction) => format!("{stands}, in transaction {transaction}"),
        None => stands,
    }
}
