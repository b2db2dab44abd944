//! [`Account`]: what a replica keeps of one record.

use crate::{
    clock::Millis,
    entry::Entry,
    ids::RecordKey,
    record::Fields,
    replica::{DeadLetter, Journaled, Replica, ReplicaError},
};

/// What a replica keeps of one record, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// The record.
    pub key: RecordKey,
    /// The local row.
    pub row: Option<Fields>,
    /// The row before the first pending entry. Only meaningful where there are entries.
    pub base: Option<Fields>,
    /// The pending entries, oldest first.
    pub entries: Vec<Entry>,
    /// Pending entries, and base images, that are not as they were written.
    pub damaged: u64,
    /// Changes by other programs that are not entries yet.
    pub noted: Option<Noted>,
    /// The record's dead letters, oldest first.
    pub letters: Vec<DeadLetter>,
    /// Its conflicts in the journal, newest first.
    pub conflicts: Vec<Journaled>,
    /// Why the local table refuses the server's version, where it does.
    pub quarantine: Option<String>,
    /// Whether the row was never offered to the server: it was there when its table was added, and was left alone.
    pub never_offered: bool,
}

impl Account {
    /// An account of a record of which nothing is kept.
    pub fn empty(key: RecordKey) -> Self {
        Self {
            key,
            row: None,
            base: None,
            entries: Vec::new(),
            damaged: 0,
            noted: None,
            letters: Vec::new(),
            conflicts: Vec::new(),
            quarantine: None,
            never_offered: false,
        }
    }
}

/// Changes of a row by other programs, which the next sync makes entries of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// How many.
    pub changes: u64,
    /// When the newest was made.
    pub at: Millis,
}

/// How many dead letters or conflicts are read at a time.
const PAGE: usize = 500;

/// An account made of what every replica answers.
pub(crate) async fn of_record<R: Replica + ?Sized>(
    replica: &R,
    key: &RecordKey,
) -> Result<Account, ReplicaError> {
    if replica.state().await?.table(&key.table).is_none() {
        return Err(ReplicaError::UnknownTable(key.table.clone()));
    }
    let mut account = Account::empty(key.clone());
    let seen = replica.records(&key.table, std::slice::from_ref(&key.id), true).await?;
    if let Some(seen) = seen.into_iter().next() {
        (account.row, account.base, account.entries) = (seen.row, seen.base, seen.entries);
    }
    account.letters = letters(replica, key).await?;
    account.conflicts = conflicts(replica, key).await?;
    Ok(account)
}

async fn letters<R: Replica + ?Sized>(replica: &R, key: &RecordKey) -> Result<Vec<DeadLetter>, ReplicaError> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = replica.dead_letters(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = last.id;
        found.extend(page.into_iter().filter(|letter| letter.key == *key));
    }
}

async fn conflicts<R: Replica + ?Sized>(
    replica: &R,
    key: &RecordKey,
) -> Result<Vec<Journaled>, ReplicaError> {
    let (mut found, mut before) = (Vec::new(), i64::MAX);
    loop {
        let page = replica.conflicts(before, PAGE).await?;
        let Some(last) = page.last() else { return Ok(found) };
        before = last.id;
        let is_its = |journaled: &Journaled| journaled.resolved.as_ref().is_some_and(|r| r.key == *key);
        found.extend(page.into_iter().filter(is_its));
    }
}
