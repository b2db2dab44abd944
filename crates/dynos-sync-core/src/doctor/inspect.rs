//! [`Inspection`]: what is wrong with a database, and what there is in it.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::scrub;
use crate::{
    clock::Millis,
    entry::{Entry, Operation},
    ids::TableName,
    replica::{DeadLetter, Replica, ReplicaError},
};

/// How far an inspection goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Every page is read, but indexes are not compared with their rows, and rows not counted.
    Quick,
    /// Everything is compared with everything.
    #[default]
    Full,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know. Nobody has to do anything.
    Note,
    /// Somebody should do something; nothing is lost.
    Warning,
    /// Something is damaged or missing.
    Fault,
}

impl Level {
    /// The level as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// Something that an inspection has found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at, as a word that does not change.
    pub check: &'static str,
    /// The table that it is about, where it is about one.
    pub table: Option<TableName>,
    /// What was found. It may quote names, and what the database says.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Finding {
    /// A finding about no table in particular.
    pub fn new(level: Level, check: &'static str, problem: impl Into<String>, remedy: &'static str) -> Self {
        Self { level, check, table: None, problem: problem.into(), remedy }
    }

    /// Says which table it is about.
    #[must_use]
    pub fn of(mut self, table: &TableName) -> Self {
        self.table = Some(table.clone());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, check, table, problem, remedy } = self;
        write!(f, "{} ({check}", level.as_str())?;
        if let Some(table) = table {
            write!(f, ", table {table}")?;
        }
        write!(f, "): {problem} ({remedy})")
    }
}

/// What an inspection has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inspection {
    /// What is wrong, or good to know. The worst is not always the first.
    pub findings: Vec<Finding>,
    /// What there is.
    pub survey: Survey,
}

impl Inspection {
    /// The worst that was found.
    pub fn worst(&self) -> Option<Level> {
        self.findings.iter().map(|finding| finding.level).max()
    }
}

/// What there is in a database, counted. But for the tables' names nothing in it is of the application or its user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// The synced tables.
    pub tables: BTreeMap<TableName, TableSurvey>,
    /// About the storage, by name: sizes and versions.
    pub storage: BTreeMap<&'static str, String>,
}

/// What there is of a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TableSurvey {
    /// Its rows, where they were counted.
    pub rows: Option<u64>,
    /// Pending entries, by what they do.
    pub queued: BTreeMap<&'static str, u64>,
    /// Pending entries that were sent and not answered.
    pub sent: u64,
    /// Pending entries that were refused and are to be tried again.
    pub refused: u64,
    /// Pending entries that wait for a time.
    pub waiting: u64,
    /// The most often that a pending entry was refused.
    pub most_attempts: u32,
    /// The time of the oldest pending edit.
    #[serde(skip)]
    pub oldest: Option<Millis>,
    /// Changes by other programs that are not entries yet.
    pub noted: u64,
    /// Dead letters, by their reason: scrubbed.
    pub dead_letters: BTreeMap<String, u64>,
    /// Rows kept aside, by their reason: scrubbed.
    pub quarantined: BTreeMap<String, u64>,
}

impl Survey {
    /// What there is of a table.
    pub fn table(&mut self, name: &TableName) -> &mut TableSurvey {
        self.tables.entry(name.clone()).or_default()
    }

    /// Counts a pending entry.
    pub fn entry(&mut self, entry: &Entry) {
        let table = self.table(&entry.key.table);
        *table.queued.entry(operation(entry.edit.operation())).or_default() += 1;
        table.sent += u64::from(entry.sent.is_some());
        table.refused += u64::from(entry.attempts > 0);
        table.waiting += u64::from(entry.retry_at.is_some());
        table.most_attempts = table.most_attempts.max(entry.attempts);
        // Rows that were there before their table was added are queued with the time 0, as older than any edit.
        if entry.at > 0 {
            table.oldest = Some(table.oldest.map_or(entry.at, |oldest| oldest.min(entry.at)));
        }
    }

    /// Counts a dead letter.
    pub fn letter(&mut self, letter: &DeadLetter) {
        let reason = scrub(&format!("{} {}", letter.code, letter.message));
        *self.table(&letter.key.table).dead_letters.entry(reason).or_default() += 1;
    }

    /// Counts a row that is kept aside.
    pub fn quarantined(&mut self, table: &TableName, error: &str) {
        *self.table(table).quarantined.entry(scrub(error)).or_default() += 1;
    }
}

fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Upsert => "upsert",
        Operation::Replace => "replace",
        Operation::Patch => "patch",
        Operation::Delete => "delete",
    }
}

/// How many entries or letters are read at a time.
const PAGE: usize = 1000;

/// An inspection of what every replica answers: it counts, and finds nothing.
pub(crate) async fn of_replica<R: Replica + ?Sized>(replica: &R) -> Result<Inspection, ReplicaError> {
    let mut survey = Survey::default();
    let mut after = 0;
    loop {
        let page = replica.queue(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.counter;
        page.iter().for_each(|entry| survey.entry(entry));
    }
    let mut after = 0;
    loop {
        let page = replica.dead_letters(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        page.iter().for_each(|letter| survey.letter(letter));
    }
    Ok(Inspection { findings: Vec::new(), survey })
}
