//! Versions of an application's schema, and what leads from each to the next.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::Value;

use crate::{
    entry::Edit,
    ids::TableName,
    record::Fields,
    replica::{DeadLetter, ReplicaError, Resolved},
};

/// The versions of an application's schema, and what leads from each to the next.
///
/// An application brings its own tables up to date with its own SQL. But what was queued under the old names is still waiting, perhaps for
/// weeks. A version has a number, and a step that leads to it; a database that was used at an earlier
/// version has the steps in between applied, once and in one transaction, to all that the engine keeps of the application's:
///
/// * queued edits, and what their records were before them,
/// * dead letters, so that a retry writes what the application knows now,
/// * both sides of the conflicts in the journal.
///
/// An edit that was sent and never answered is sent again as it was, since the server may have it already; whatever becomes of it then,
/// it goes on in the new form. Records are not changed: neither the application's rows, nor what the server has.
///
/// ```
/// use dynos_sync_core::{Schema, TableName, fields};
///
/// let schema = Schema::version(3)
///     .step(2, |part| if part.table() == "tasks" { part.rename("name", "title") })
///     .step(3, |part| if part.table() == "tasks" { part.remove("colour") });
///
/// let table: TableName = "tasks".parse()?;
/// let mut edit = fields([("name", "milk".into()), ("colour", "red".into())]);
/// schema.upgrade(1, &table, &mut edit);
/// assert_eq!(edit, fields([("title", "milk".into())]));
/// # Ok::<(), dynos_sync_core::Invalid>(())
/// ```
#[derive(Clone, Default)]
pub struct Schema {
    version: u32,
    steps: BTreeMap<u32, Step>,
}

type Step = Arc<dyn Fn(&mut Part<'_>) + Send + Sync>;

impl Schema {
    /// A schema of this version, from 1 on. A database that was used by an application which named none has version 0.
    pub fn version(version: u32) -> Self {
        Self { version, steps: BTreeMap::new() }
    }

    /// What leads to a version from the one before it. It is called with the fields of whole records and with those that an edit sets, which
    /// are only some: it must leave what is not there alone. A version without a step, as one that only adds columns, changes nothing.
    #[must_use]
    pub fn step(mut self, to: u32, step: impl Fn(&mut Part<'_>) + Send + Sync + 'static) -> Self {
        self.steps.insert(to, Arc::new(step));
        self
    }

    /// The version's number.
    pub fn number(&self) -> u32 {
        self.version
    }

    /// Whether a database of version `found` has to be brought up to date.
    ///
    /// # Errors
    /// [`ReplicaError::NewerSchema`] where it was used by a newer version of the application.
    pub fn is_ahead_of(&self, found: u32) -> Result<bool, ReplicaError> {
        match found > self.version {
            true => Err(ReplicaError::NewerSchema { found, known: self.version }),
            false => Ok(found < self.version),
        }
    }

    /// Applies the steps from version `found` on.
    pub fn upgrade(&self, found: u32, table: &TableName, fields: &mut Fields) {
        let between = |to: &u32| found < *to && *to <= self.version;
        for (_, step) in self.steps.iter().filter(|(to, _)| between(to)) {
            step(&mut Part { table, fields });
        }
    }

    /// As [`upgrade`](Self::upgrade), the fields of an edit.
    pub fn upgrade_edit(&self, found: u32, table: &TableName, edit: &mut Edit) {
        if let Some(fields) = edit.fields_mut() {
            self.upgrade(found, table, fields);
        }
    }

    /// As [`upgrade`](Self::upgrade), the edits of a letter.
    pub fn upgrade_letter(&self, found: u32, letter: &mut DeadLetter) {
        for (edit, _) in &mut letter.edits {
            self.upgrade_edit(found, &letter.key.table, edit);
        }
    }

    /// As [`upgrade`](Self::upgrade), all versions that an entry of the conflict journal tells of.
    pub fn upgrade_resolved(&self, found: u32, resolved: &mut Resolved) {
        let Resolved { key, base, mine, theirs, outcome, .. } = resolved;
        for record in [base, mine, theirs, outcome].into_iter().flatten() {
            self.upgrade(found, &key.table, record);
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<&u32> = self.steps.keys().collect();
        f.debug_struct("Schema").field("version", &self.version).field("steps", &steps).finish()
    }
}

/// Fields of a record: all of them, or those that an edit sets.
#[derive(Debug)]
pub struct Part<'a> {
    table: &'a TableName,
    fields: &'a mut Fields,
}

impl Part<'_> {
    /// The record's table.
    pub fn table(&self) -> &str {
        self.table.as_str()
    }

    /// Gives a field another name. What is under that name already stays.
    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(value) = self.fields.remove(from) {
            self.fields.entry(to).or_insert(value);
        }
    }

    /// Takes a field away.
    pub fn remove(&mut self, name: &str) {
        self.fields.remove(name);
    }

    /// Changes a field's value, where it is there.
    pub fn change(&mut self, name: &str, change: impl FnOnce(Value) -> Value) {
        if let Some(value) = self.fields.get_mut(name) {
            *value = change(value.take());
        }
    }

    /// The fields themselves.
    pub fn fields_mut(&mut self) -> &mut Fields {
        self.fields
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::fields;

    #[test]
    fn the_steps_between_are_applied_in_their_order_and_no_other() {
        let add = |letter: &'static str| {
            move |part: &mut Part<'_>| {
                part.change("trace", |was| json!(format!("{}{letter}", was.as_str().unwrap_or_default())));
            }
        };
        let schema =
            Schema::version(3).step(4, add("d")).step(3, add("c")).step(1, add("a")).step(2, add("b"));
        let table: TableName = "t".parse().unwrap();
        for (found, expected) in [(0, "abc"), (1, "bc"), (2, "c"), (3, ""), (u32::MAX, "")] {
            let mut record = fields([("trace", json!(""))]);
            schema.upgrade(found, &table, &mut record);
            assert_eq!(record, fields([("trace", json!(expected))]), "from {found}");
        }
    }

    #[test]
    fn a_part_is_changed_only_where_it_has_the_field() {
        let table: TableName = "t".parse().unwrap();
        let mut record = fields([("a", json!(1)), ("both", json!("old")), ("new", json!("new"))]);
        let mut part = Part { table: &table, fields: &mut record };
        part.rename("a", "b");
        part.rename("none", "nothing");
        part.rename("both", "new");
        part.change("none", |_| json!(0));
        part.remove("none");
        assert_eq!(record, fields([("b", json!(1)), ("new", json!("new"))]));
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused() {
        let schema = Schema::version(2);
        assert!(schema.is_ahead_of(0).unwrap() && schema.is_ahead_of(1).unwrap());
        assert!(!schema.is_ahead_of(2).unwrap());
        assert!(matches!(schema.is_ahead_of(3), Err(ReplicaError::NewerSchema { found: 3, known: 2 })));
    }
}
