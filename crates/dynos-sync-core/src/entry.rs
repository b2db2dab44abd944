//! Local edits and the queue's entries.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Millis,
    cursor::Cursor,
    ids::{Counter, RecordKey},
    record::Fields,
    sabotage::{Mutant, is_on},
};

/// The kind of an [`Edit`], without its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Set the given fields; create the record where it is missing.
    Upsert,
    /// Make the record exactly these fields; create it where it is missing.
    Replace,
    /// Set the given fields of a record that exists.
    Patch,
    /// Delete the record.
    Delete,
}

/// What a local operation does to a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Set the given fields; create the record where it is missing.
    Upsert(Fields),
    /// Make the record exactly these fields (those it does not name are reset); create it where it is missing.
    /// This is what an upsert after a delete amounts to.
    Replace(Fields),
    /// Set the given fields of a record that exists.
    Patch(Fields),
    /// Delete the record.
    Delete,
}

impl Edit {
    /// The edit's kind.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Upsert(_) => Operation::Upsert,
            Self::Replace(_) => Operation::Replace,
            Self::Patch(_) => Operation::Patch,
            Self::Delete => Operation::Delete,
        }
    }

    /// Puts a kind and fields together again. A delete has no fields.
    pub fn new(operation: Operation, fields: Fields) -> Self {
        match operation {
            Operation::Upsert => Self::Upsert(fields),
            Operation::Replace => Self::Replace(fields),
            Operation::Patch => Self::Patch(fields),
            Operation::Delete => Self::Delete,
        }
    }

    /// The fields that the edit sets; none for a delete.
    pub fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Upsert(fields) | Self::Replace(fields) | Self::Patch(fields) => Some(fields),
            Self::Delete => None,
        }
    }

    /// As [`fields`](Self::fields), to change them.
    pub fn fields_mut(&mut self) -> Option<&mut Fields> {
        match self {
            Self::Upsert(fields) | Self::Replace(fields) | Self::Patch(fields) => Some(fields),
            Self::Delete => None,
        }
    }

    /// As [`fields`](Self::fields), by value; empty for a delete.
    pub fn into_fields(self) -> Fields {
        match self {
            Self::Upsert(fields) | Self::Replace(fields) | Self::Patch(fields) => fields,
            Self::Delete => Fields::new(),
        }
    }

    /// Takes out what it sets of these fields.
    pub fn take(&mut self, fields: &BTreeSet<String>) -> Fields {
        let named = |set: &mut Fields| fields.iter().filter_map(|field| set.remove_entry(field)).collect();
        self.fields_mut().map(named).unwrap_or_default()
    }

    /// One edit with the effect of `self` and then `later`: how pending entries of a record are coalesced.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        match (self, later) {
            (_, Self::Delete) => Self::Delete,
            (_, Self::Replace(fields)) => Self::Replace(fields),
            // What follows a delete starts from nothing.
            (Self::Delete, Self::Upsert(fields) | Self::Patch(fields))
                if is_on(Mutant::RecreatedAsUpsert) =>
            {
                Self::Upsert(fields)
            }
            (Self::Delete, Self::Upsert(fields) | Self::Patch(fields)) => Self::Replace(fields),
            (Self::Replace(first), Self::Upsert(fields) | Self::Patch(fields)) => {
                Self::Replace(merged(first, fields))
            }
            (Self::Patch(_), Self::Patch(fields)) if is_on(Mutant::CoalescedAway) => Self::Patch(fields),
            (Self::Patch(first), Self::Patch(fields)) => Self::Patch(merged(first, fields)),
            (Self::Upsert(first) | Self::Patch(first), Self::Upsert(fields))
            | (Self::Upsert(first), Self::Patch(fields)) => Self::Upsert(merged(first, fields)),
        }
    }

    /// The record after the edit, from the record before it (`None`: it does not exist).
    /// A patch of a record that does not exist leaves it so.
    pub fn apply(&self, before: Option<Fields>) -> Option<Fields> {
        match self {
            Self::Delete => None,
            Self::Replace(fields) => Some(fields.clone()),
            Self::Upsert(fields) => Some(merged(before.unwrap_or_default(), fields.clone())),
            Self::Patch(fields) if is_on(Mutant::PatchAsWhole) => before.map(|_| fields.clone()),
            Self::Patch(fields) => before.map(|record| merged(record, fields.clone())),
        }
    }
}

fn merged(mut first: Fields, later: Fields) -> Fields {
    first.extend(later);
    first
}

/// One queued local operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number: later entries of the replica have higher ones.
    pub counter: Counter,
    /// The record.
    pub key: RecordKey,
    /// What to do to it.
    pub edit: Edit,
    /// The edit's time, by the device's hybrid clock.
    pub at: Millis,
    /// `None` until the entry is about to be sent for the first time; from then on the table's cursor of that
    /// moment (itself absent where nothing was pulled yet), and the entry is frozen.
    pub sent: Option<Sent>,
    /// How often the server refused it.
    pub attempts: u32,
    /// Not before this time is it sent again.
    pub retry_at: Option<Millis>,
    /// The transaction that it is a part of, by a number that no other of the replica has. On the server it takes effect together with
    /// the others of its transaction, or not at all.
    pub transaction: Option<Counter>,
}

impl Entry {
    /// Takes fields out of a record's entries. Answers what is left to be sent, and an edit for each that had some of them.
    pub fn set_aside(entries: Vec<Self>, fields: &BTreeSet<String>) -> (Vec<Self>, Vec<(Edit, Millis)>) {
        let (mut rest, mut aside) = (Vec::new(), Vec::new());
        for mut entry in entries {
            if matches!(entry.edit, Edit::Replace(_) | Edit::Delete) {
                // Nothing of what the record was before.
                aside.clear();
            }
            let taken = entry.edit.take(fields);
            let is_spent = !taken.is_empty() && matches!(&entry.edit, Edit::Patch(left) if left.is_empty());
            if !taken.is_empty() {
                aside.push((Edit::Patch(taken), entry.at));
            }
            if !is_spent {
                rest.push(entry);
            }
        }
        (rest, aside)
    }

    /// How many of a record's entries are sent as one with the oldest: a transaction's are none but its own.
    pub fn first_group(entries: &[Self]) -> usize {
        let Some(first) = entries.first() else { return 0 };
        let other = entries.iter().position(|entry| entry.transaction != first.transaction);
        other.unwrap_or(entries.len())
    }

    /// Makes entries of a record again on top of another version of it. Answers the record after them. Where there is none any more, what was
    /// a patch of it creates it: nothing of what was written is to be without effect.
    pub fn make_again(entries: &mut [Self], base: Option<Fields>) -> Option<Fields> {
        if let (None, Some(first)) = (&base, entries.first_mut())
            && let Edit::Patch(fields) = &mut first.edit
        {
            first.edit = Edit::Upsert(std::mem::take(fields));
        }
        entries.iter().fold(base, |record, entry| entry.edit.apply(record))
    }

    /// How many of a record's entries are given up with the oldest: those that were made on top of it, but none of another transaction.
    pub fn given_up(entries: &[Self]) -> usize {
        let Some(first) = entries.first() else { return 0 };
        let other = |entry: &Self| entry.transaction.is_some() && entry.transaction != first.transaction;
        entries.iter().position(other).unwrap_or(entries.len())
    }
}

/// What was fixed when an entry was first sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The table's cursor then: what the edit's author had seen.
    pub base: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fields;
    use proptest::prelude::*;

    fn edit() -> impl Strategy<Value = Edit> {
        let some_fields = proptest::collection::btree_map("[abc]", 0..5i32, 0..3)
            .prop_map(|map| map.into_iter().map(|(k, v)| (k, v.into())).collect::<Fields>());
        prop_oneof![
            some_fields.clone().prop_map(Edit::Upsert),
            some_fields.clone().prop_map(Edit::Replace),
            some_fields.prop_map(Edit::Patch),
            Just(Edit::Delete),
        ]
    }

    proptest! {
        /// Coalescing may not change what the server ends with. (A patch of a record that does not exist never
        /// occurs: the device refuses it.)
        #[test]
        fn coalesced_edits_have_the_effect_of_both(
            first in edit(), second in edit(), exists in any::<bool>()
        ) {
            let before = exists.then(|| fields([("a", 9.into()), ("z", 9.into())]));
            let one_by_one = first.apply(before.clone());
            let refused = |edit: &Edit, record: &Option<Fields>| matches!(edit, Edit::Patch(_)) && record.is_none();
            prop_assume!(!refused(&first, &before) && !refused(&second, &one_by_one));
            let expected = second.apply(one_by_one);
            prop_assert_eq!(first.then(second).apply(before), expected);
        }
    }
}
