//! What a local edit must pass before anything is stored.

use serde_json::Value;

use crate::{
    clock::Millis,
    entry::Edit,
    error::Invalid,
    ids::RecordKey,
    ownership::{Ownership, Violation},
    record::{Fields, measure},
    redact::Redactor,
    replica::{ReplicaError, TablePolicy, TableState},
    sabotage::{Mutant, is_on},
    table::TableSpec,
};

/// Why an edit is refused before anything is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The input is at fault.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The record is larger than the limit.
    #[error("{key} has {bytes} bytes, the limit is {limit} (store large values elsewhere and refer to them)")]
    PayloadTooLarge {
        /// The record.
        key: RecordKey,
        /// Its size as compact JSON.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The record belongs to somebody else.
    #[error("{key} belongs to another user")]
    RlsViolation {
        /// The record.
        key: RecordKey,
        /// The owner that it names.
        row_owner: String,
    },
}

/// Passes an edit through the gates: known columns, depth and size, owner, redaction; and stamps `updated_at`
/// where the table has that column and the edit does not set it.
/// A row of somebody else is not to be patched or deleted either: that is looked at where it is edited ([`guard`]).
///
/// # Errors
/// [`Refusal`]; nothing may be stored then.
pub fn write(
    table: &TableState,
    key: &RecordKey,
    mut edit: Edit,
    at: Millis,
    max_payload_bytes: usize,
) -> Result<Edit, Refusal> {
    let Some(fields) = edit.fields_mut() else { return Ok(edit) };
    if let Err(Violation { row_owner, .. }) = ownership(&table.policy).check(fields) {
        return Err(Refusal::RlsViolation { key: key.clone(), row_owner });
    }
    table.spec.check(fields)?;
    stamp(&table.spec, fields, at);
    if !is_on(Mutant::MaskedLate) {
        Redactor::new(&table.policy.sensitive_fields).mask(fields);
    }
    let bytes = measure(fields)?;
    if bytes > max_payload_bytes {
        return Err(Refusal::PayloadTooLarge { key: key.clone(), bytes, limit: max_payload_bytes });
    }
    Ok(edit)
}

/// The row gate of a table.
pub fn ownership(policy: &TablePolicy) -> Ownership {
    Ownership::new(policy.user.as_deref(), &policy.owner_columns)
}

/// Refuses an edit of a row that names another owner. Replicas ask in the transaction that edits it: whose row it is may have changed
/// since the edit was planned.
///
/// # Errors
/// [`ReplicaError::Foreign`].
pub fn guard(policy: &TablePolicy, key: &RecordKey, row: &Fields) -> Result<(), ReplicaError> {
    ownership(policy)
        .check(row)
        .map_err(|Violation { row_owner, .. }| ReplicaError::Foreign { key: key.clone(), row_owner })
}

fn stamp(spec: &TableSpec, fields: &mut Fields, at: Millis) {
    const COLUMN: &str = "updated_at";
    let Some(column) = spec.column(COLUMN) else { return };
    if fields.get(COLUMN).is_some_and(|value| !value.is_null()) {
        return;
    }
    let integer = column.declared.to_uppercase().contains("INT");
    let text = || jiff::Timestamp::from_millisecond(at).map(|time| Value::String(format!("{time:.3}")));
    match (integer, text()) {
        (false, Ok(text)) => fields.insert(COLUMN.to_owned(), text),
        _ => fields.insert(COLUMN.to_owned(), at.into()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::fields,
        replica::Phase,
        table::{Column, Shape},
    };
    use serde_json::json;

    fn table(columns: &[(&str, &str)]) -> TableState {
        let column = |(name, declared): &(&str, &str)| Column {
            name: (*name).to_owned(),
            declared: (*declared).to_owned(),
            not_null: false,
            default: None,
            collation: None,
        };
        let shape = match columns {
            [] => Shape::Document,
            columns => Shape::Columns {
                columns: columns.iter().map(column).collect(),
                key: vec!["id".to_owned()],
                indexes: vec![],
                foreign_keys: vec![],
                without_rowid: false,
                strict: false,
                autoincrement: false,
            },
        };
        let policy = TablePolicy {
            sensitive_fields: vec!["ssn".into()],
            user: Some("ada".into()),
            ..TablePolicy::default()
        };
        TableState {
            spec: TableSpec { name: "t".parse().unwrap(), shape },
            policy,
            cursor: None,
            phase: Phase::First,
            declared: false,
            synced_at: None,
            ahead: None,
            gained: std::collections::BTreeSet::new(),
        }
    }

    fn pass(table: &TableState, edit: Edit) -> Result<Edit, Refusal> {
        write(table, &RecordKey::new("t", "1").unwrap(), edit, 1_767_225_600_123, 100)
    }

    #[test]
    fn the_payload_limit_is_exact() {
        let with = |n: usize| Edit::Upsert(fields([("a", "x".repeat(n).into())]));
        let overhead = r#"{"a":""}"#.len();
        assert!(pass(&table(&[]), with(100 - overhead)).is_ok());
        let refusal = pass(&table(&[]), with(101 - overhead)).unwrap_err();
        assert!(matches!(refusal, Refusal::PayloadTooLarge { bytes: 101, limit: 100, .. }), "{refusal}");
    }

    #[test]
    fn another_owner_is_refused_on_every_kind_of_edit() {
        let bobs = fields([("owner_id", "bob".into())]);
        for edit in [Edit::Upsert(bobs.clone()), Edit::Replace(bobs.clone()), Edit::Patch(bobs.clone())] {
            assert!(matches!(pass(&table(&[]), edit), Err(Refusal::RlsViolation { .. })));
        }
        let key = RecordKey::new("t", "1").unwrap();
        let refused = guard(&table(&[]).policy, &key, &bobs);
        assert!(matches!(refused, Err(ReplicaError::Foreign { row_owner, .. }) if row_owner == "bob"));
    }

    #[test]
    fn sensitive_fields_are_masked() {
        let edit = pass(&table(&[]), Edit::Patch(fields([("a", json!({"ssn": 1}))]))).unwrap();
        assert_eq!(edit, Edit::Patch(fields([("a", json!({"ssn": "[REDACTED]"}))])));
    }

    #[test]
    fn unknown_columns_are_named() {
        let refusal = pass(&table(&[("id", "TEXT")]), Edit::Patch(fields([("nope", 1.into())]))).unwrap_err();
        assert!(matches!(&refusal, Refusal::Invalid(invalid) if invalid.field == "nope"), "{refusal}");
    }

    #[test]
    fn updated_at_is_stamped_in_the_columns_own_notation() {
        for (declared, expected) in [
            ("TEXT", json!("2026-01-01T00:00:00.123Z")),
            ("", json!("2026-01-01T00:00:00.123Z")),
            ("INTEGER", json!(1_767_225_600_123_i64)),
        ] {
            let table = table(&[("id", "TEXT"), ("updated_at", declared)]);
            assert_eq!(
                pass(&table, Edit::Patch(Fields::new())),
                Ok(Edit::Patch(fields([("updated_at", expected)])))
            );
            let given = Edit::Patch(fields([("updated_at", "mine".into())]));
            assert_eq!(pass(&table, given.clone()), Ok(given));
        }
    }
}
