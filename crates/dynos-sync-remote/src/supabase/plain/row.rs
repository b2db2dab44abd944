//! Rows of the project's tables.

use dynos_sync_core::{Fields, Operation, Value, alike, wire::PushEntry};
use serde::Deserialize;

use super::{
    id,
    time::{self, Micros},
};

/// The columns that plain mode gives a meaning to.
pub(super) const ID: &str = "id";
pub(super) const UPDATED_AT: &str = "updated_at";
pub(super) const DELETED_AT: &str = "deleted_at";

/// A row, as the database has it.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Fields")]
pub(super) struct Row {
    /// What is in the column `id`, as text.
    pub(super) id: String,
    /// When it was written last.
    pub(super) updated_at: Micros,
    /// What a device gets of it; absent where it is marked as deleted.
    pub(super) record: Option<Fields>,
}

impl TryFrom<Fields> for Row {
    type Error = &'static str;

    fn try_from(mut columns: Fields) -> Result<Self, &'static str> {
        let id = columns
            .remove(ID)
            .and_then(|id| id::of_json(&id))
            .ok_or("a row whose id is no text or number")?;
        let written = columns.get(UPDATED_AT).and_then(Value::as_str).and_then(time::parse);
        let updated_at = written.ok_or("a row whose updated_at is no time")?;
        // One notation, whether the column has a zone or not.
        columns.insert(UPDATED_AT.to_owned(), time::format(updated_at).into());
        let deleted = columns.remove(DELETED_AT).is_some_and(|at| !at.is_null());
        Ok(Self { id, updated_at, record: (!deleted).then_some(columns) })
    }
}

impl Row {
    /// Whether the row is as if the entry had just been applied. Times that the server sets do not count.
    pub(super) fn has(&self, entry: &PushEntry) -> bool {
        match (&self.record, entry.op) {
            (None, operation) => operation == Operation::Delete,
            (Some(_), Operation::Delete) => false,
            (Some(record), _) => {
                let mut set = entry.data.iter().flatten().filter(|(name, _)| name.as_str() != UPDATED_AT);
                set.all(|(name, value)| record.get(name).is_some_and(|found| alike(found, value)))
            }
        }
    }
}

/// The columns that an entry sets, beside its key.
///
/// The time is the server's, always: by a device's clock others would miss the row, as their cursors are past it.
pub(super) fn columns(entry: &PushEntry, soft_delete: bool) -> Fields {
    let now = || Value::from("now");
    let mut columns = entry.data.clone().unwrap_or_default();
    columns.remove(ID);
    match entry.op {
        Operation::Delete => drop(columns.insert(DELETED_AT.to_owned(), now())),
        // It brings a deleted row back.
        Operation::Upsert | Operation::Replace if soft_delete => {
            columns.entry(DELETED_AT).or_insert(Value::Null);
        }
        _ => {}
    }
    columns.insert(UPDATED_AT.to_owned(), now());
    columns
}

/// The first field whose value PostgreSQL's own types would take for something else: a device's blob, infinity or text
/// that is no UTF-8.
pub(super) fn untranslatable(entry: &PushEntry) -> Option<&str> {
    let is_tagged = |value: &Value| {
        let Value::Object(tagged) = value else { return false };
        tagged.len() == 1 && tagged.keys().all(|tag| matches!(tag.as_str(), "$blob" | "$real" | "$text"))
    };
    let mut fields = entry.data.iter().flatten();
    fields.find(|(_, value)| is_tagged(value)).map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use dynos_sync_core::json;

    use super::*;

    fn row(columns: Value) -> Result<Row, serde_json::Error> {
        serde_json::from_value(columns)
    }

    fn entry(op: Operation, data: &Value) -> PushEntry {
        let data = (op != Operation::Delete).then(|| data.as_object().unwrap().clone());
        let (table, id) = ("t".parse().unwrap(), "x".parse().unwrap());
        PushEntry { counter: 1, table, id, op, base: None, at: 0, data, transaction: None }
    }

    #[test]
    fn a_row_is_an_id_a_time_and_the_rest() {
        let at = "2026-11-26T14:12:49.5+00:00";
        let living = row(json!({"id": 7, "updated_at": at, "deleted_at": null, "a": 1})).unwrap();
        assert_eq!((living.id.as_str(), living.updated_at), ("7", 1_795_702_369_500_000));
        let fields = json!({"updated_at": "2026-11-26T14:12:49.5Z", "a": 1});
        assert_eq!(living.record.map(Value::Object), Some(fields));
        let deleted = row(json!({"id": "x", "updated_at": at, "deleted_at": at})).unwrap();
        assert_eq!(deleted.record, None);
        for columns in
            [json!({"updated_at": at}), json!({"id": "x", "updated_at": null}), json!({"id": "x"}), json!([])]
        {
            assert!(row(columns.clone()).is_err(), "{columns}");
        }
    }

    #[test]
    fn the_servers_time_is_written_whatever_the_device_says() {
        let upsert =
            entry(Operation::Upsert, &json!({"id": "y", "updated_at": "2020-01-01T00:00:00Z", "a": 1}));
        assert_eq!(Value::Object(columns(&upsert, false)), json!({"updated_at": "now", "a": 1}));
        assert_eq!(
            Value::Object(columns(&upsert, true)),
            json!({"updated_at": "now", "a": 1, "deleted_at": null})
        );
        let patch = entry(Operation::Patch, &json!({"a": 1}));
        assert_eq!(Value::Object(columns(&patch, true)), json!({"updated_at": "now", "a": 1}));
        let delete = entry(Operation::Delete, &json!({}));
        assert_eq!(Value::Object(columns(&delete, true)), json!({"updated_at": "now", "deleted_at": "now"}));
    }

    #[test]
    fn an_application_may_mark_a_row_as_deleted_itself() {
        let marked = entry(Operation::Upsert, &json!({"deleted_at": "2026-01-01T00:00:00Z"}));
        assert_eq!(columns(&marked, true)["deleted_at"], "2026-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_there_already_is_recognised() {
        let at = "2026-11-26T14:12:49.5+00:00";
        let found = row(json!({"id": "x", "updated_at": at, "a": 3, "b": null})).unwrap();
        for (data, has) in [
            (json!({"a": 3.0, "updated_at": "2020-01-01T00:00:00Z"}), true),
            (json!({"b": null}), true),
            (json!({"a": 4}), false),
            (json!({"c": null}), false),
        ] {
            assert_eq!(found.has(&entry(Operation::Patch, &data)), has, "{data}");
        }
        let gone = row(json!({"id": "x", "updated_at": at, "deleted_at": at})).unwrap();
        assert!(
            gone.has(&entry(Operation::Delete, &json!({})))
                && !found.has(&entry(Operation::Delete, &json!({})))
        );
        assert!(!gone.has(&entry(Operation::Patch, &json!({}))));
    }

    #[test]
    fn values_that_the_database_would_misread_are_found() {
        assert_eq!(
            untranslatable(&entry(Operation::Patch, &json!({"a": 1, "b": {"$blob": "AA=="}}))),
            Some("b")
        );
        assert_eq!(
            untranslatable(&entry(
                Operation::Patch,
                &json!({"a": {"$blob": 1, "c": 2}, "b": [{"$real": 1}]})
            )),
            None
        );
    }
}
