//! [`scrub`]: messages without anything of a user's.
//!
//! A message of a database or a server may quote what it is about: a value, an id, an address, a name. Patterns for such things miss what
//! nobody thought of, and a list of harmless words would let a value through that is made of them. So it is the other way round: what
//! stays of a message is which of some known phrases it contains.

/// The phrases that may stay, in lower case: of SQLite, Postgres, HTTP clients, and of this engine. What has several of them is told by
/// all, the longest first where they begin at the same place.
const PHRASES: &[&str] = &[
    // SQLite's, and of its checks.
    "unique constraint failed",
    "not null constraint failed",
    "foreign key constraint failed",
    "check constraint failed",
    "primary key constraint failed",
    "datatype mismatch",
    "cannot store",
    "integer overflow",
    "database is locked",
    "database or disk is full",
    "database disk image is malformed",
    "disk i/o error",
    "file is not a database",
    "unable to open database file",
    "attempt to write a readonly database",
    "out of memory",
    "interrupted",
    "no such table",
    "no such column",
    "no such function",
    "no such module",
    "raised by a trigger",
    "missing from index",
    "wrong # of entries in index",
    "non-unique entry in index",
    "null value in",
    "out of order",
    "never used",
    "2nd reference to page",
    "btreeinitpage",
    "invalid page number",
    "freelist",
    "malformed inverted index",
    // Whose the index or table is.
    "dynos_queue_record",
    "dynos_queue_ready",
    "dynos_queue_waiting",
    "dynos_queue_sent",
    "dynos_queue_tag",
    "dynos_queue",
    "dynos_state",
    "dynos_table",
    "dynos_base",
    "dynos_dead",
    "dynos_conflict",
    "dynos_seen",
    "dynos_quarantine",
    "dynos_local",
    "dynos_former",
    "dynos_sent_as",
    "dynos_log",
    "sqlite_schema",
    // Postgres'.
    "violates unique constraint",
    "violates not-null constraint",
    "violates foreign key constraint",
    "violates check constraint",
    "violates exclusion constraint",
    "violates row-level security policy",
    "row-level security",
    "permission denied",
    "invalid input syntax",
    "value too long",
    "out of range",
    "deadlock detected",
    "statement timeout",
    "too many connections",
    // Of calls.
    "connection refused",
    "connection reset",
    "connection closed",
    "dns error",
    "failed to lookup",
    "certificate",
    "timed out",
    "error sending request",
    "token has expired",
    "token is missing",
    "invalid token",
    // The protocol's codes.
    "constraint",
    "forbidden",
    "not_found",
    "unknown_table",
    "unknown_column",
    "set_aside",
    "too_large",
    "rate_limited",
    "unavailable",
    "unauthorized",
    "replica_forked",
    "cursor_expired",
    "damaged",
    "invalid",
    "internal",
    // The engine's, and those of its findings.
    "foreign key mismatch",
    "no table of the database is synced",
    "an earlier version of dynos-sync",
    "a newer version of dynos-sync",
    "after a logout the file could not be scrubbed",
    "the file is a copy of the one that was synced last",
    "it is not in the database any more",
    "its triggers are not as they were made",
    "its columns have changed since its triggers were made",
    "queued edits are not as they were written",
    "edits are queued, and there should be",
    "are not in their record's order",
    "what they were before their pending edits",
    "no edit can be read any more",
    "entries of the conflict journal",
    "that refer to rows that are not here",
    "the journal beside the file",
    "edits were refused for good",
    "are refused by the local tables",
    "ahead of this machine's clock",
    "nothing was synced with a server yet",
    "its first pull was interrupted",
    "since the server has forgotten deletions",
    "since the server was restored",
    "names another owner",
    "belongs to another user",
    "is not as it was written",
    "the triggers are asleep",
    "it is not as long as it should be",
    "no key of table",
    "does not follow the protocol",
    "keeps changing while it is being synced",
    "cannot be read",
];

/// What is left where nothing is known.
const OTHER: &str = "other";

/// What may be told of a message to somebody who is not to see the user's data: which of some hundred known phrases it contains, in
/// their order, in lower case; `other` where it contains none.
///
/// ```
/// use dynos_sync_core::doctor::scrub;
/// assert_eq!(scrub("UNIQUE constraint failed: people.email"), "unique constraint failed");
/// assert_eq!(scrub("Key (email)=(ada@example.com) already exists."), "other");
/// assert_eq!(scrub("row 7 missing from index dynos_queue_sent"), "missing from index; dynos_queue_sent");
/// ```
pub fn scrub(message: &str) -> String {
    let message = message.to_lowercase();
    let mut rest = message.as_str();
    let mut kept: Vec<&str> = Vec::new();
    while let Some((phrase, after)) = first(rest) {
        if !kept.contains(&phrase) {
            kept.push(phrase);
        }
        rest = after;
    }
    if kept.is_empty() { OTHER.to_owned() } else { kept.join("; ") }
}

/// The phrase that begins first, and what follows it.
fn first(text: &str) -> Option<(&'static str, &str)> {
    let places = PHRASES.iter().filter_map(|phrase| Some((text.find(phrase)?, *phrase)));
    let (place, phrase) = places.min_by_key(|(place, phrase)| (*place, std::cmp::Reverse(phrase.len())))?;
    text.get(place + phrase.len()..).map(|after| (phrase, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_is_known_is_left() {
        for (message, left) in [
            ("", "other"),
            (
                "constraint: duplicate key value violates unique constraint \"users_ssn\"",
                "constraint; violates unique constraint",
            ),
            ("error sending request for url (https://ada:pw@host.example/v1?x=1)", "error sending request"),
            ("Bearer eyJhbGciOi.eyJzdWIi.c2ln 4111111111111111", "other"),
            ("note/my secret: NOT NULL constraint failed: note.iban", "not null constraint failed"),
            ("storage: database is locked", "database is locked"),
        ] {
            assert_eq!(scrub(message), left, "{message}");
        }
    }

    #[test]
    fn phrases_are_found_as_they_are_written() {
        for phrase in PHRASES {
            assert_eq!(scrub(&phrase.to_uppercase()), *phrase);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_left_but_phrases_of_the_list(
            before in ".{0,40}", phrase in proptest::sample::select(PHRASES), after in ".{0,40}"
        ) {
            for left in scrub(&format!("{before}{phrase}{after}")).split("; ") {
                prop_assert!(left == OTHER || PHRASES.contains(&left), "{left}");
            }
        }
    }
}
