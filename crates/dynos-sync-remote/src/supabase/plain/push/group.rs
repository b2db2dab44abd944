//! Which entries may travel together.

use std::collections::{BTreeSet, HashSet};

use dynos_sync_core::{Operation, TableName};

use super::Write;
use crate::supabase::plain::row::ID;

/// Writes to one table that are of one kind, and of different records.
pub(super) struct Group<'a> {
    pub(super) table: &'a TableName,
    pub(super) kind: Kind<'a>,
    pub(super) writes: Vec<Write<'a>>,
}

/// What is done, and to which columns where that has to be the same.
#[derive(PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Insert(BTreeSet<&'a str>),
    Patch,
    Delete,
}

impl<'a> Group<'a> {
    /// One write by itself.
    pub(super) fn of(write: Write<'a>) -> Self {
        Self { table: &write.entry.table, kind: Kind::of(&write), writes: vec![write] }
    }
}

impl<'a> Kind<'a> {
    fn of(write: &Write<'a>) -> Self {
        match write.entry.op {
            Operation::Upsert | Operation::Replace => {
                let columns = write.entry.data.iter().flat_map(|data| data.keys()).map(String::as_str);
                Self::Insert(columns.filter(|column| *column != ID).collect())
            }
            Operation::Patch => Self::Patch,
            Operation::Delete => Self::Delete,
        }
    }
}

/// Parts the writes so that each record is in a part once: its entries keep their order.
pub(super) fn runs<'a, 'w>(writes: &'w [Write<'a>]) -> Vec<&'w [Write<'a>]> {
    let (mut runs, mut start, mut records) = (Vec::new(), 0, HashSet::new());
    for (at, write) in writes.iter().enumerate() {
        let record = (&write.entry.table, &write.entry.id);
        if !records.insert(record) {
            runs.push(&writes[start..at]);
            (start, records) = (at, HashSet::from([record]));
        }
    }
    runs.push(&writes[start..]);
    runs
}

/// Groups a run, in the order in which the groups begin: rows come after those of the tables that they refer to.
pub(super) fn groups<'a>(run: &[Write<'a>]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for write in run {
        let one = Group::of(*write);
        match groups.iter_mut().find(|group| group.table == one.table && group.kind == one.kind) {
            Some(group) => group.writes.extend(one.writes),
            None => groups.push(one),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use dynos_sync_core::{Value, json, wire::PushEntry};

    use super::*;

    fn entry(table: &str, id: &str, op: Operation, data: &Value) -> PushEntry {
        let data = data.as_object().cloned();
        let (table, id) = (table.parse().unwrap(), id.parse().unwrap());
        PushEntry { counter: 1, table, id, op, base: None, at: 0, data, transaction: None }
    }

    fn writes(entries: &[PushEntry]) -> Vec<Write<'_>> {
        entries.iter().enumerate().map(|(n, entry)| Write { n, entry, seen: None }).collect()
    }

    #[test]
    fn entries_of_a_record_never_travel_together() {
        let entries = ["x", "y", "x", "x", "y"].map(|id| entry("t", id, Operation::Patch, &json!({})));
        let writes = writes(&entries);
        let places: Vec<Vec<usize>> =
            runs(&writes).iter().map(|run| run.iter().map(|write| write.n).collect()).collect();
        assert_eq!(places, [vec![0, 1], vec![2], vec![3, 4]]);
        assert_eq!(runs(&[]).concat().len(), 0);
    }

    #[test]
    fn a_group_has_one_table_one_kind_and_one_set_of_columns() {
        let entries = [
            entry("order", "1", Operation::Upsert, &json!({"a": 1, "b": 1})),
            entry("line", "1", Operation::Upsert, &json!({"a": 1})),
            entry("order", "2", Operation::Replace, &json!({"b": 2, "a": 2})),
            entry("order", "3", Operation::Upsert, &json!({"a": 1})),
            entry("order", "4", Operation::Patch, &json!({"a": 1})),
            entry("order", "5", Operation::Delete, &json!(null)),
            entry("order", "6", Operation::Patch, &json!({"b": 1})),
        ];
        let writes = writes(&entries);
        let places: Vec<Vec<usize>> =
            groups(&writes).iter().map(|group| group.writes.iter().map(|write| write.n).collect()).collect();
        assert_eq!(places, [vec![0, 2], vec![1], vec![3], vec![4, 6], vec![5]]);
    }
}
