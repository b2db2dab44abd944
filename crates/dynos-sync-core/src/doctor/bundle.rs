//! [`support_bundle`]: how a database stands, for somebody who is not to see the user's data.
//!
//! Everything in it is a number, a time that has passed, a word of this crate's, or a [scrubbed](scrub) message. It has no field for a
//! value, an id, a cursor, an identity, an address or a token, so that none can get in. Names of tables and columns are the
//! application's: they are kept only where somebody says so, and numbered otherwise. (A hash of a name would give it away to whoever
//! guesses it.)

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Failed, Finding, Inspection, TableSurvey, scrub};
use crate::{
    clock::Millis,
    ids::TableName,
    replica::{Phase, State, TableState},
    table::{Column, Shape},
};

/// What becomes of the names of tables and columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Tables are `t1`, `t2`, …, in the order in which they were added; columns are not named.
    #[default]
    Hidden,
    /// They stay as they are.
    Kept,
}

/// What a support bundle is made of.
#[derive(Clone, Debug, Default)]
pub struct Bundled<'a> {
    /// Now.
    pub now: Millis,
    /// The replica as a whole, where it can be read.
    pub state: Option<&'a State>,
    /// What was found in it.
    pub inspection: Option<&'a Inspection>,
    /// What went wrong lately, oldest first.
    pub failures: Vec<Failed>,
    /// Numbers by name.
    pub metrics: BTreeMap<&'static str, u64>,
}

/// Makes a support bundle: a JSON object, whose `format` is 1.
pub fn support_bundle(bundled: &Bundled<'_>, names: Names) -> Value {
    let labels = Labels::new(bundled, names);
    let Bundled { now, state, inspection, failures, metrics } = bundled;
    json!({
        "format": 1,
        "names": match names {
            Names::Hidden => "hidden",
            Names::Kept => "kept",
        },
        "program": {
            "dynos_sync": env!("CARGO_PKG_VERSION"),
            "os": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
        },
        "replica": state.map(|state| replica(state, *now)),
        "tables": tables(bundled, &labels, names),
        "storage": inspection.map(|inspection| &inspection.survey.storage),
        "findings": inspection.map(|inspection| {
            inspection.findings.iter().map(|found| finding(found, &labels)).collect::<Vec<_>>()
        }),
        "failures": failures.iter().map(|failed| failure(failed, *now)).collect::<Vec<_>>(),
        "metrics": metrics,
    })
}

/// What tables are called.
struct Labels(BTreeMap<TableName, String>);

impl Labels {
    fn new(bundled: &Bundled<'_>, names: Names) -> Self {
        let listed = bundled.state.iter().flat_map(|state| &state.tables).map(|table| &table.spec.name);
        let surveyed = bundled.inspection.iter().flat_map(|inspection| inspection.survey.tables.keys());
        let mut labels = BTreeMap::new();
        for name in listed.chain(surveyed) {
            let number = labels.len() + 1;
            labels.entry(name.clone()).or_insert_with(|| match names {
                Names::Hidden => format!("t{number}"),
                Names::Kept => name.to_string(),
            });
        }
        Self(labels)
    }

    fn of(&self, name: &TableName) -> &str {
        self.0.get(name).map_or("another", String::as_str)
    }
}

fn replica(state: &State, now: Millis) -> Value {
    json!({
        "has_met_server": state.server.is_some(),
        "sessions_ended": state.generation,
        "edits_numbered": state.last_counter,
        "edits_sent": state.last_sent,
        "clock_ahead_seconds": (state.clock - now).max(0) / 1000,
        "pending": state.pending,
        "dead_letters": state.dead_letters,
        "conflicts": state.conflicts,
        "quarantined": state.quarantined,
    })
}

fn tables(bundled: &Bundled<'_>, labels: &Labels, names: Names) -> Value {
    let mut found = Map::new();
    for table in bundled.state.iter().flat_map(|state| &state.tables) {
        found.insert(labels.of(&table.spec.name).to_owned(), described(table, bundled.now, names));
    }
    for (name, survey) in bundled.inspection.iter().flat_map(|inspection| &inspection.survey.tables) {
        let place = found.entry(labels.of(name)).or_insert_with(|| json!({}));
        place["holds"] = held(survey, bundled.now);
    }
    Value::Object(found)
}

fn described(table: &TableState, now: Millis, names: Names) -> Value {
    let policy = &table.policy;
    json!({
        "shape": shape(&table.spec.shape, names),
        "phase": match table.phase {
            Phase::First => "first",
            Phase::Following => "following",
            Phase::Resync => "resync",
            Phase::Restore { .. } => "restore",
        },
        "pull": policy.pull,
        "has_user": policy.user.is_some(),
        "owner_columns": policy.owner_columns.len(),
        "sensitive_fields": policy.sensitive_fields.len(),
        "declared": table.declared,
        "has_cursor": table.cursor.is_some(),
        "has_place_ahead": table.ahead.is_some(),
        "pulled_seconds_ago": table.synced_at.map(|at| (now - at) / 1000),
    })
}

fn shape(shape: &Shape, names: Names) -> Value {
    match shape {
        Shape::Document => json!({"kind": "document"}),
        Shape::Columns { columns, key, indexes, foreign_keys, without_rowid, strict, autoincrement } => {
            json!({
                "kind": "columns",
                "columns": columns.iter().map(|column| self::column(column, key, names)).collect::<Vec<_>>(),
                "indexes": indexes.len(),
                "unique_indexes": indexes.iter().filter(|index| index.unique).count(),
                "foreign_keys": foreign_keys.len(),
                "without_rowid": without_rowid,
                "strict": strict,
                "autoincrement": autoincrement,
            })
        }
    }
}

fn column(column: &Column, key: &[String], names: Names) -> Value {
    let mut described = json!({
        "type": affinity(&column.declared),
        "in_key": key.contains(&column.name),
        "not_null": column.not_null,
        "has_default": column.default.is_some(),
        "has_collation": column.collation.is_some(),
    });
    if names == Names::Kept {
        described["name"] = json!(column.name);
    }
    described
}

/// What SQLite makes of a declared type, which is free text.
fn affinity(declared: &str) -> &'static str {
    let declared = declared.to_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    match () {
        () if has(&["BOOL"]) => "boolean",
        () if has(&["JSON"]) => "json",
        () if has(&["INT"]) => "integer",
        () if has(&["CHAR", "CLOB", "TEXT"]) => "text",
        () if declared.is_empty() || has(&["BLOB"]) => "blob",
        () if has(&["REAL", "FLOA", "DOUB"]) => "real",
        () => "numeric",
    }
}

fn held(survey: &TableSurvey, now: Millis) -> Value {
    let mut held = json!(survey);
    held["oldest_seconds"] = json!(survey.oldest.map(|at| (now - at).max(0) / 1000));
    held
}

fn finding(finding: &Finding, labels: &Labels) -> Value {
    json!({
        "level": finding.level,
        "check": finding.check,
        "table": finding.table.as_ref().map(|table| labels.of(table)),
        "problem": scrub(&finding.problem),
    })
}

fn failure(failed: &Failed, now: Millis) -> Value {
    json!({
        "seconds_ago": (now - failed.at).max(0) / 1000,
        "kind": failed.kind,
        "error": scrub(&failed.error),
    })
}

#[cfg(test)]
mod tests;
