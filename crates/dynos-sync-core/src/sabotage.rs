//! Defects to order: each is a bug that engines of this kind have had, and that the simulator has to find. Without the
//! feature `__sabotage` none of them is compiled in.

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $mutant:ident = $name:literal,)+) => {
        /// A defect.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $mutant,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$mutant,)+];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$mutant => $name,)+ }
            }

            /// What it does.
            pub fn effect(self) -> &'static str {
                match self { $(Self::$mutant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

mutants! {
    /// A row is committed before its queue entry.
    RowQueueSplit = "row-queue-split",
    /// A page's cursor is committed before its rows.
    CursorBeforeRows = "cursor-before-rows",
    /// A device moves past its own push wherever it stands.
    SkipAnywhere = "skip-anywhere",
    /// A push that is not answered counts as not sent, and is sent under a new number.
    LostReplyIsFailure = "lost-reply-is-failure",
    /// A failing network counts against an entry, which is given up after a few times.
    OfflineIsPoison = "offline-is-poison",
    /// A page that is full lacks its last change.
    PageTruncated = "page-truncated",
    /// The server does not tell of deletions.
    TombstonesLost = "tombstones-lost",
    /// A page is applied though the record was written in the meantime.
    StaleRecord = "stale-record",
    /// What was planned in a session is committed in the next one.
    StaleSession = "stale-session",
    /// The server takes an edit though the record has changed since its author saw it.
    NoCompareAndSet = "no-compare-and-set",
    /// The server takes an old entry after a newer one of the same writer.
    NoStaleCounterRule = "no-stale-counter-rule",
    /// The server does not remember what became of an entry.
    OutcomesForgotten = "outcomes-forgotten",
    /// A device passes over what a page says of its unanswered entries.
    SettledIgnored = "settled-ignored",
    /// The server applies what it can of a transaction.
    TransactionHalfApplied = "transaction-half-applied",
    /// The records of a transaction are sent as if it was none.
    TransactionTornApart = "transaction-torn-apart",
    /// Sensitive fields are masked after the write.
    MaskedLate = "masked-late",
    /// A logout leaves the queue.
    LogoutKeepsQueue = "logout-keeps-queue",
    /// A logout leaves what was deleted in the file.
    LogoutKeepsPages = "logout-keeps-pages",
    /// A logout leaves the rows of tables that are no longer synced.
    LogoutKeepsFormer = "logout-keeps-former",
    /// Of two pending patches only the later one is sent.
    CoalescedAway = "coalesced-away",
    /// A record that is deleted and made again keeps its old fields.
    RecreatedAsUpsert = "recreated-as-upsert",
    /// A refused entry is queued behind the later ones of its record.
    RefusedLast = "refused-last",
    /// A pulled change is stored over pending edits.
    PendingOverwritten = "pending-overwritten",
    /// The outcome of a conflict is stored, and not sent.
    OutcomeNotSent = "outcome-not-sent",
    /// A patch replaces the whole record.
    PatchAsWhole = "patch-as-whole",
    /// A push does not say how far its author has seen.
    PushSeenLeftOut = "push-seen-left-out",
    /// A pull does not say how far its author has seen.
    PullSeenLeftOut = "pull-seen-left-out",
    /// A device does not note how far its own push has brought the server.
    AheadForgotten = "ahead-forgotten",
    /// A first pull and a resync leave out what the device itself wrote.
    OwnLeftOut = "own-left-out",
    /// After a purge rows that the server does not have stay.
    UnseenKept = "unseen-kept",
    /// After a restore nothing is offered again.
    NothingOffered = "nothing-offered",
    /// A cursor from before a purge is taken.
    PurgeUnnoticed = "purge-unnoticed",
    /// A cursor of a lost history is taken.
    RestoreUnnoticed = "restore-unnoticed",
    /// A file that is put back from an older copy goes on under its old numbers, and the server takes others' content for a repeat.
    CopyUnnoticed = "copy-unnoticed",
    /// A file that is put back goes on under its old numbers once new edits have been numbered.
    CopyHidden = "copy-hidden",
    /// What is sent is not durable before.
    SentUnsynced = "sent-unsynced",
    /// What is pulled is taken for the application's own writes.
    AppliedIsCaptured = "applied-is-captured",
    /// Edits of a table are sent while it is still found out what the server lost.
    PushedInWalk = "pushed-in-walk",
    /// Commits are not synced.
    NotSynced = "not-synced",
    /// What waits for a time waits on after the clock was set back.
    ClockSetBack = "clock-set-back",
    /// What was sent is brought up to the application's next version, and sent again as something else.
    SentUpgraded = "sent-upgraded",
    /// A table that gains a column is not walked again for what was left out.
    LeftOutForgotten = "left-out-forgotten",
    /// In that walk, what is pending keeps the server's values out of the new columns.
    GainedUnfilled = "gained-unfilled",
    /// The queue is brought up to the application's next version, and the dead letters are not.
    LettersLeftBehind = "letters-left-behind",
}

#[cfg(feature = "__sabotage")]
static ACTIVE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(usize::MAX);

/// Turns a defect on, in this process, or all of them off.
#[cfg(feature = "__sabotage")]
pub fn set(mutant: Option<Mutant>) {
    let place = mutant.map_or(usize::MAX, |mutant| mutant as usize);
    ACTIVE.store(place, std::sync::atomic::Ordering::Relaxed);
}

/// Whether a defect is on.
#[inline(always)]
pub fn is_on(mutant: Mutant) -> bool {
    #[cfg(feature = "__sabotage")]
    return ACTIVE.load(std::sync::atomic::Ordering::Relaxed) == mutant as usize;
    #[cfg(not(feature = "__sabotage"))]
    {
        let _ = mutant;
        false
    }
}
