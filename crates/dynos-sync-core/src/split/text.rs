//! Entries and dead letters as JSON.

use std::str::FromStr;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    clock::Millis,
    cursor::Cursor,
    entry::{Edit, Entry, Operation, Sent},
    ids::{Counter, RecordKey},
    record::Fields,
    replica::{DeadLetter, ReplicaError},
};

#[derive(Serialize, Deserialize)]
struct EditText {
    op: Operation,
    #[serde(default)]
    data: Fields,
    at: Millis,
}

#[derive(Serialize, Deserialize)]
pub(super) struct EntryText {
    key: RecordKey,
    edit: EditText,
    /// Whether it was sent: an entry can be sent without a base.
    sent: bool,
    base: Option<Cursor>,
    attempts: u32,
    retry_at: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transaction: Option<Counter>,
    /// What it was sent with, under an earlier version of the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent_as: Option<EditText>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LetterText {
    key: RecordKey,
    edits: Vec<EditText>,
    code: String,
    message: String,
    at: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transaction: Option<Counter>,
}

impl EditText {
    fn of(edit: &Edit, at: Millis) -> Self {
        Self { op: edit.operation(), data: edit.fields().cloned().unwrap_or_default(), at }
    }

    fn edit(self) -> (Edit, Millis) {
        (Edit::new(self.op, self.data), self.at)
    }
}

impl EntryText {
    pub(super) fn of(entry: &Entry, sent_as: Option<&Edit>) -> Self {
        Self {
            sent_as: sent_as.map(|edit| EditText::of(edit, entry.at)),
            key: entry.key.clone(),
            edit: EditText::of(&entry.edit, entry.at),
            sent: entry.sent.is_some(),
            base: entry.sent.as_ref().and_then(|sent| sent.base.clone()),
            attempts: entry.attempts,
            retry_at: entry.retry_at,
            transaction: entry.transaction,
        }
    }

    pub(super) fn entry(self, counter: Counter) -> (Entry, Option<Edit>) {
        let Self { key, edit, sent, base, attempts, retry_at, transaction, sent_as } = self;
        let (edit, at) = edit.edit();
        let entry = Entry {
            counter,
            key,
            edit,
            at,
            sent: sent.then_some(Sent { base }),
            attempts,
            retry_at,
            transaction,
        };
        (entry, sent_as.map(|sent_as| sent_as.edit().0))
    }
}

impl LetterText {
    pub(super) fn of(letter: &DeadLetter) -> Self {
        let edits = letter.edits.iter().map(|(edit, at)| EditText::of(edit, *at)).collect();
        let (code, message) = (letter.code.clone(), letter.message.clone());
        Self { key: letter.key.clone(), edits, code, message, at: letter.at, transaction: letter.transaction }
    }

    pub(super) fn letter(self, id: i64) -> DeadLetter {
        let Self { key, edits, code, message, at, transaction } = self;
        let edits = edits.into_iter().map(EditText::edit).collect();
        DeadLetter { id, key, edits, code, message, at, transaction }
    }
}

pub(super) fn text(value: &impl Serialize) -> Result<String, ReplicaError> {
    serde_json::to_string(value).map_err(|error| ReplicaError::Storage {
        message: "a value has no JSON form".to_owned(),
        source: Some(Box::new(error)),
    })
}

/// Reads a text. An error does not tell it: it is the user's data.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ReplicaError> {
    serde_json::from_str(text).map_err(|_| corrupt("a text that cannot be read"))
}

pub(super) fn number<T: FromStr>(name: &str) -> Result<T, ReplicaError> {
    name.parse().map_err(|_| corrupt("a key that cannot be read"))
}

pub(super) fn corrupt(what: &str) -> ReplicaError {
    ReplicaError::Corrupt(format!("the queue store has {what}"))
}
