//! A database, looked through.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use dynos_sync::core::{
    TableName, Value,
    doctor::{Finding, Inspection, Level, TableSurvey},
    json,
    replica::State,
};

use crate::output::{Columns, plain};

pub(super) fn document(database: &Path, state: Option<&State>, inspection: &Inspection) -> Value {
    let survey = &inspection.survey;
    json!({
        "database": database.display().to_string(),
        "sound": inspection.worst() < Some(Level::Fault),
        "findings": inspection.findings.iter().map(finding).collect::<Vec<_>>(),
        "pending": state.map(|state| state.pending),
        "dead_letters": state.map(|state| state.dead_letters),
        "conflicts": state.map(|state| state.conflicts),
        "quarantined": state.map(|state| state.quarantined),
        "tables": survey.tables.iter().map(table).collect::<Vec<_>>(),
        "storage": survey.storage,
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "level": finding.level,
        "check": finding.check,
        "table": finding.table.as_ref().map(TableName::as_str),
        "problem": finding.problem,
        "remedy": finding.remedy,
    })
}

fn table((name, held): (&TableName, &TableSurvey)) -> Value {
    json!({
        "table": name.as_str(),
        "rows": held.rows,
        "queued": sum(&held.queued),
        "sent": held.sent,
        "refused": held.refused,
        "waiting": held.waiting,
        "noted": held.noted,
        "dead_letters": sum(&held.dead_letters),
        "quarantined": sum(&held.quarantined),
    })
}

fn sum<K>(counts: &BTreeMap<K, u64>) -> u64 {
    counts.values().sum()
}

pub(super) fn text(state: Option<&State>, inspection: &Inspection) -> String {
    let mut text = String::new();
    for found in &inspection.findings {
        let Finding { level, check, table, problem, remedy } = found;
        let about = table.as_ref().map_or_else(String::new, |table| format!(" of table {table}"));
        // Writing to a text does not fail.
        let _ =
            writeln!(text, "{}: {check}{}: {}\n  {remedy}", level.as_str(), plain(&about), plain(problem));
    }
    if inspection.findings.is_empty() {
        text.push_str("nothing is wrong with the database\n");
    }
    if let Some(State { pending, dead_letters, conflicts, quarantined, .. }) = state {
        let _ = writeln!(
            text,
            "\npending {pending}, dead letters {dead_letters}, conflicts {conflicts}, quarantined {quarantined}"
        );
    }
    let mut columns = Columns::new(["table", "rows", "queued", "sent", "refused", "noted"]);
    for (name, held) in &inspection.survey.tables {
        let rows = held.rows.map_or_else(|| "-".to_owned(), |rows| rows.to_string());
        let [queued, sent, refused, noted] =
            [sum(&held.queued), held.sent, held.refused, held.noted].map(|number| number.to_string());
        columns.row([name.to_string(), rows, queued, sent, refused, noted]);
    }
    if !columns.is_empty() {
        let _ = write!(text, "\n{columns}");
    }
    text
}
