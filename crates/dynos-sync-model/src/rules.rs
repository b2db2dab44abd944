//! The protocol's rules that can be switched off, to show that the checker then finds a hole.

use std::fmt;

/// A rule of `docs/protocol.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Rule {
    /// The server applies an entry only if nobody else changed the record since the author saw it.
    CompareAndSet,
    /// The server remembers the outcome of every (replica, counter).
    RememberedOutcomes,
    /// The server takes an entry that is older than the same writer's last change for a duplicate.
    StaleCounter,
    /// A page says which unanswered entries were applied.
    Settled,
    /// What was sent is not coalesced with later edits.
    Freezing,
    /// A conflict that a push meets is decided where the change is pulled, not by offering the edit once more.
    ConflictsByPull,
    /// The cursor skips a push only if it stood where the push began.
    SkipAtBefore,
    /// The end of a push is kept as a place that was seen, where the cursor cannot skip to it.
    Ahead,
    /// A page and its cursor are one transaction. Without, the cursor comes first.
    PageWithCursor,
    /// A replica's own changes are left out only while it is sure to have them.
    OwnInFullPulls,
    /// A push says how far its author has seen.
    Seen,
    /// A table that is pulled from the beginning again is pulled to the end before anything of it is pushed.
    WalkBeforePush,
    /// A cursor in the midst of a walk is valid only as long as the history that the page was read from.
    WalkEnd,
    /// What a resync lists as it was before the pending edits is no conflict with them.
    KnownInResync,
    /// What is on the wire when the server is restored arrives no more. An assumption, not a rule: without it the server
    /// may apply what it has forgotten, and the author is not sent its own changes.
    WireCutByRestore,
    /// Cursors carry the life of the server in which they were made.
    Incarnations,
    /// A delete leaves a tombstone.
    Tombstones,
    /// A cursor older than a purged tombstone is refused.
    PurgedCursors,
    /// The server applies all of a transaction, or nothing.
    Together,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::CompareAndSet,
        Self::RememberedOutcomes,
        Self::StaleCounter,
        Self::Settled,
        Self::Freezing,
        Self::ConflictsByPull,
        Self::SkipAtBefore,
        Self::Ahead,
        Self::PageWithCursor,
        Self::OwnInFullPulls,
        Self::Seen,
        Self::WalkBeforePush,
        Self::WalkEnd,
        Self::KnownInResync,
        Self::WireCutByRestore,
        Self::Incarnations,
        Self::Tombstones,
        Self::PurgedCursors,
        Self::Together,
    ];

    /// A small world in which it shows what the rule is good for: the variant, and how many edits.
    pub fn shown_by(self) -> (&'static str, usize) {
        match self {
            Self::PageWithCursor | Self::Tombstones => ("last-write-wins", 1),
            Self::PurgedCursors => ("purge", 1),
            Self::OwnInFullPulls | Self::WalkBeforePush => ("purge", 2),
            Self::KnownInResync => ("purge, server-wins", 3),
            Self::Together => ("transactions", 2),
            Self::Ahead => ("restore", 1),
            Self::Seen | Self::Incarnations | Self::WireCutByRestore => ("restore", 2),
            Self::WalkEnd => ("restore, new devices", 2),
            _ => ("client-wins", 2),
        }
    }
}

/// Which rules are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    off: Option<Rule>,
}

impl Rules {
    /// All rules but one.
    pub fn without(rule: Rule) -> Self {
        Self { off: Some(rule) }
    }

    /// Whether a rule is followed.
    pub fn has(self, rule: Rule) -> bool {
        self.off != Some(rule)
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.off {
            None => f.write_str("all rules"),
            Some(rule) => write!(f, "without {rule:?}"),
        }
    }
}
