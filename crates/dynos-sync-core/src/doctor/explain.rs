//! [`Explanation`]: what a replica's account of a record means.

use std::fmt;

use super::{Account, Noted};
use crate::{
    clock::Millis,
    entry::Entry,
    ids::RecordKey,
    plan::write::ownership,
    record::Fields,
    redact::Redactor,
    replica::{DeadLetter, Journaled, Phase, State, TableState},
};

/// What an engine remembers since it was started. Of a database that is only looked at, nothing is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recent {
    /// The last sync, push or pull that failed, if none has succeeded since.
    pub failure: Option<Failed>,
    /// What the server said last of the record's edits, if it refused them for now.
    pub refusal: Option<Failed>,
    /// Nobody calls the server by himself before this time.
    pub resume_at: Option<Millis>,
}

/// Something went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// When.
    pub at: Millis,
    /// What it was, as a word that does not change.
    pub kind: &'static str,
    /// What it was, in words.
    pub error: String,
    /// Whether somebody has to sign in.
    pub needs_sign_in: bool,
}

impl Failed {
    fn of(letter: &DeadLetter) -> Self {
        let error = format!("{}: {}", letter.code, letter.message);
        Self { at: letter.at, kind: "refused", error, needs_sign_in: false }
    }
}

/// The local row, compared with what it was before the first pending edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// There is none, and there was none.
    Missing,
    /// Nothing is pending, or nothing of it differs.
    Same,
    /// Other programs have changed it; what differs is found when that is collected.
    Touched,
    /// There was none before.
    Created,
    /// There is none any more.
    Deleted,
    /// These fields differ.
    Changed(Vec<String>),
}

impl Local {
    fn of(account: &Account, table: &TableState) -> Self {
        let redactor = Redactor::new(&table.policy.sensitive_fields);
        // A base image is masked already; the row is masked here, so that they are alike.
        let row = account.row.clone().map(|mut row| {
            redactor.mask(&mut row);
            row
        });
        match (&account.base, &row) {
            _ if account.entries.is_empty() && account.noted.is_some() => Self::Touched,
            (None, None) => Self::Missing,
            (_, Some(_)) if account.entries.is_empty() => Self::Same,
            (Some(_), None) if account.entries.is_empty() => Self::Missing,
            (None, Some(_)) => Self::Created,
            (Some(_), None) => Self::Deleted,
            (Some(base), Some(row)) => match differing(base, row) {
                fields if fields.is_empty() => Self::Same,
                fields => Self::Changed(fields),
            },
        }
    }

    /// The comparison as a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Same => "same",
            Self::Touched => "touched",
            Self::Created => "created",
            Self::Deleted => "deleted",
            Self::Changed(_) => "changed",
        }
    }
}

fn differing(base: &Fields, row: &Fields) -> Vec<String> {
    let mut names: Vec<String> = base.keys().chain(row.keys()).cloned().collect();
    names.sort();
    names.dedup();
    names.retain(|name| base.get(name) != row.get(name));
    names
}

/// Why a record is as it is: everything that is known of it but its values, and what that amounts to.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The record.
    pub key: RecordKey,
    /// How its table is synced; none where it is not.
    pub table: Option<TableState>,
    /// The local row, compared with its base.
    pub local: Local,
    /// What is pending, oldest first.
    pub pending: Vec<Entry>,
    /// Changes by other programs that are not entries yet.
    pub noted: Option<Noted>,
    /// What the server said last of it: if it refused it for now, and that is remembered; or in its newest dead letter.
    pub last_answer: Option<Failed>,
    /// The last failure of a sync, if none has succeeded since and that is remembered.
    pub last_failure: Option<Failed>,
    /// Not before this time is it tried again; where none is known, the next sync does.
    pub next_attempt: Option<Millis>,
    /// Its dead letters, oldest first.
    pub letters: Vec<DeadLetter>,
    /// Its conflicts in the journal, newest first.
    pub conflicts: Vec<Journaled>,
    /// Why the local table refuses the server's version, where it does.
    pub quarantine: Option<String>,
    /// What it amounts to.
    pub conclusion: Conclusion,
}

impl Explanation {
    /// Explains a record. `account` is none where its table is not synced.
    pub fn new(key: RecordKey, state: &State, account: Option<Account>, recent: Recent, now: Millis) -> Self {
        let table = state.table(&key.table).cloned();
        let (Some(account), Some(facts)) = (account, &table) else {
            return Self::untracked(key);
        };
        let next_attempt = next_attempt(&account, &recent, now);
        let conclusion = conclude(facts, &account, &recent, next_attempt.map(|at| at - now));
        let Recent { failure, refusal, .. } = recent;
        let refused = account.entries.iter().any(|entry| entry.attempts > 0);
        Self {
            key,
            local: Local::of(&account, facts),
            table,
            pending: account.entries,
            noted: account.noted,
            last_answer: refusal.filter(|_| refused).or_else(|| Some(Failed::of(account.letters.last()?))),
            last_failure: failure,
            next_attempt,
            letters: account.letters,
            conflicts: account.conflicts,
            quarantine: account.quarantine,
            conclusion,
        }
    }

    fn untracked(key: RecordKey) -> Self {
        Self {
            key,
            table: None,
            local: Local::Missing,
            pending: Vec::new(),
            noted: None,
            last_answer: None,
            last_failure: None,
            next_attempt: None,
            letters: Vec::new(),
            conflicts: Vec::new(),
            quarantine: None,
            conclusion: Conclusion::NotTracked,
        }
    }
}

fn next_attempt(account: &Account, recent: &Recent, now: Millis) -> Option<Millis> {
    let retry_at = account.entries.first()?.retry_at;
    retry_at.into_iter().chain(recent.resume_at).max().filter(|at| *at > now)
}

/// What is known of a record, in one sentence.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Conclusion {
    /// Its table is not synced.
    NotTracked,
    /// Of what is queued not all can be read.
    Damaged {
        /// How much.
        parts: u64,
    },
    /// Somebody has to sign in.
    SignedOut {
        /// What the server said.
        error: String,
    },
    /// Refused, and to be tried again.
    Refused {
        /// How often.
        attempts: u32,
        /// Why, where that is remembered.
        error: Option<String>,
        /// In how many milliseconds; where none is given, with the next sync.
        wait: Option<Millis>,
    },
    /// It waits until its table was pulled from the beginning again.
    Walking,
    /// Sent; whether the server has it is not known yet.
    Unanswered,
    /// The server cannot be reached, or syncing fails in another way.
    Failing {
        /// What kind of failure it was last, as a word.
        kind: &'static str,
        /// What it was, in words.
        error: String,
        /// Whether the edit was sent: the server may have it.
        sent: bool,
        /// In how many milliseconds it is tried again by itself.
        wait: Option<Millis>,
    },
    /// Queued, and not sent yet.
    Waiting,
    /// Another program has changed it, and nobody has synced since.
    Noted {
        /// How often.
        changes: u64,
    },
    /// Refused for good: the edits are in a dead letter.
    DeadLetter {
        /// Its number.
        letter: i64,
        /// Why.
        error: String,
    },
    /// The local table refuses the server's version.
    Quarantined {
        /// Why.
        error: String,
    },
    /// The row names another owner than the device's user.
    Foreign {
        /// The column that does.
        column: String,
    },
    /// It was there when its table was added, and was left alone.
    NeverOffered,
    /// There is no such record, and nothing of it waits.
    Absent,
    /// Nothing is pending, but its table is not pulled to the end.
    Pulling,
    /// Nothing is pending.
    Synced {
        /// When its table was last pulled to the end; none where it is never pulled.
        as_of: Option<Millis>,
    },
}

/// The first that applies: what holds an edit up comes before what happened to earlier ones.
fn conclude(table: &TableState, account: &Account, recent: &Recent, wait: Option<Millis>) -> Conclusion {
    if account.damaged > 0 {
        return Conclusion::Damaged { parts: account.damaged };
    }
    if let Some(oldest) = account.entries.first() {
        return of_pending(table, oldest, recent, wait);
    }
    if let Some(Noted { changes, .. }) = account.noted {
        return Conclusion::Noted { changes };
    }
    if let Some(letter) = account.letters.last() {
        return Conclusion::DeadLetter { letter: letter.id, error: Failed::of(letter).error };
    }
    if let Some(error) = &account.quarantine {
        return Conclusion::Quarantined { error: error.clone() };
    }
    let violation = account.row.as_ref().and_then(|row| ownership(&table.policy).check(row).err());
    match (violation, &account.row) {
        (Some(violation), _) => Conclusion::Foreign { column: violation.column },
        _ if account.never_offered => Conclusion::NeverOffered,
        _ if table.policy.pull && table.phase != Phase::Following => Conclusion::Pulling,
        (_, None) => Conclusion::Absent,
        _ => Conclusion::Synced { as_of: table.synced_at.filter(|_| table.policy.pull) },
    }
}

fn of_pending(table: &TableState, oldest: &Entry, recent: &Recent, wait: Option<Millis>) -> Conclusion {
    let sent = oldest.sent.is_some();
    match &recent.failure {
        Some(failed) if failed.needs_sign_in => Conclusion::SignedOut { error: failed.error.clone() },
        _ if oldest.attempts > 0 && !sent => {
            let error = recent.refusal.as_ref().map(|refused| refused.error.clone());
            Conclusion::Refused { attempts: oldest.attempts, error, wait }
        }
        Some(Failed { kind, error, .. }) => Conclusion::Failing { kind, error: error.clone(), sent, wait },
        None if sent => Conclusion::Unanswered,
        None if matches!(table.phase, Phase::Resync | Phase::Restore { .. }) => Conclusion::Walking,
        None => Conclusion::Waiting,
    }
}

impl Conclusion {
    /// The conclusion as a word that does not change.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotTracked => "not_tracked",
            Self::Damaged { .. } => "damaged",
            Self::SignedOut { .. } => "signed_out",
            Self::Refused { .. } => "refused",
            Self::Walking => "walking",
            Self::Unanswered => "unanswered",
            Self::Failing { .. } => "failing",
            Self::Waiting => "waiting",
            Self::Noted { .. } => "noted",
            Self::DeadLetter { .. } => "dead_letter",
            Self::Quarantined { .. } => "quarantined",
            Self::Foreign { .. } => "foreign",
            Self::NeverOffered => "never_offered",
            Self::Absent => "absent",
            Self::Pulling => "pulling",
            Self::Synced { .. } => "synced",
        }
    }

    /// Whether the record is on this device as the server had it last.
    pub fn is_synced(&self) -> bool {
        matches!(self, Self::Synced { .. })
    }

    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotTracked => "add the table to those that are synced",
            Self::Damaged { .. } => {
                "write the record again; the next sync puts what can be read into a dead letter"
            }
            Self::SignedOut { .. } => "sign in; the queue waits",
            Self::Refused { .. } => {
                "change the record so that the server takes it, or wait for the next attempt"
            }
            Self::Walking | Self::Pulling => "sync until the table was pulled to the end",
            Self::Unanswered => {
                "sync again: the edit is asked about under its own number and takes effect once"
            }
            Self::Failing { .. } => "nothing is lost: see to what the failure names, or wait",
            Self::Waiting | Self::Noted { .. } => "sync",
            Self::DeadLetter { .. } => "take up the dead letter or discard it",
            Self::Quarantined { .. } => {
                "change the rows that are in the way, or the table; it is tried again when the record changes"
            }
            Self::Foreign { .. } => {
                "rows of other users are neither sent nor taken: correct the owner, or leave it"
            }
            Self::NeverOffered => "change the record, and it is sent",
            Self::Absent => "look at the id: a text key is its own id, other keys are written as JSON",
            Self::Synced { .. } => "nothing has to be done",
        }
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTracked => f.write_str("the table is not synced on this device"),
            Self::Damaged { .. } => f.write_str("what is queued of the record is not as it was written"),
            Self::SignedOut { error } => write!(f, "waits until somebody signs in: {error}"),
            Self::Refused { attempts, error, wait } => {
                write!(f, "refused {}", times(u64::from(*attempts)))?;
                if let Some(error) = error {
                    write!(f, ": {error}")?;
                }
                write!(f, "; next attempt {}", When(*wait))
            }
            Self::Walking => f.write_str("waits until the table was pulled from the beginning again"),
            Self::Unanswered => f.write_str("sent, and not answered yet"),
            Self::Failing { kind, error, sent, wait } => {
                let sent = if *sent { "sent, and not answered; " } else { "" };
                let why = if *kind == "unreachable" { "waits for the network" } else { "syncing fails" };
                write!(f, "{sent}{why}: last error {error}; next attempt {}", When(*wait))
            }
            Self::Waiting => f.write_str("queued, and not sent yet"),
            Self::Noted { changes } => {
                write!(f, "changed {} by another program since the last sync", times(*changes))
            }
            Self::DeadLetter { letter, error } => {
                write!(f, "refused for good: {error}; see dead letter {letter}")
            }
            Self::Quarantined { error } => write!(f, "the local table refuses the server's version: {error}"),
            Self::Foreign { column } => write!(f, "not synced: {column} names another user"),
            Self::NeverOffered => {
                f.write_str("not synced: it was there before its table was, and has not changed since")
            }
            Self::Absent => f.write_str("there is no such record here, and nothing of it waits"),
            Self::Pulling => f.write_str("nothing of it waits, but its table was not pulled to the end yet"),
            Self::Synced { as_of: None } => f.write_str("synced: nothing of it waits"),
            Self::Synced { .. } => {
                f.write_str("synced: nothing of it waits, and its table was pulled to the end")
            }
        }
    }
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// How long something is away, for people.
struct When(Option<Millis>);

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MINUTE: i64 = 60;
        let Some(wait) = self.0 else { return f.write_str("with the next sync") };
        match wait.max(0).saturating_add(999) / 1000 {
            seconds if seconds < 2 * MINUTE => write!(f, "in {seconds} s"),
            seconds => write!(f, "in {} min", seconds / MINUTE),
        }
    }
}

#[cfg(test)]
mod tests;
