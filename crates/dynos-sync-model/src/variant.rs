//! What is explored: a strategy, and what may happen beside pushing and pulling.

use dynos_sync_core::{Millis, conflict::Strategy};

/// One world to explore.
#[derive(Clone, Debug)]
pub struct Variant {
    /// What the table of results calls it.
    pub name: &'static str,
    /// How conflicts are decided.
    pub strategy: Strategy,
    /// How many local edits there are, over both devices.
    pub edits: usize,
    /// Whether the devices begin without having pulled anything.
    pub fresh: bool,
    /// Whether the server is restored once to any earlier copy.
    pub restore: bool,
    /// Whether the server purges its tombstones once.
    pub purge: bool,
    /// Whether the server begins by refusing all edits, as if the table were not declared.
    pub refusing: bool,
    /// Whether edits of both records are made in one transaction, in place of whole records one by one.
    pub together: bool,
    /// What the two devices' wall clocks say.
    pub clocks: [Millis; 2],
    /// The most records in a push.
    pub batch: usize,
    /// The most changes in a page.
    pub page: usize,
}

impl Variant {
    /// The plain protocol under a strategy.
    pub fn plain(name: &'static str, strategy: Strategy) -> Self {
        Self {
            name,
            strategy,
            edits: 3,
            fresh: false,
            restore: false,
            purge: false,
            refusing: false,
            together: false,
            clocks: [0, 0],
            batch: 2,
            page: 1,
        }
    }

    /// All that is explored.
    pub fn all() -> Vec<Self> {
        let plain = Self::plain;
        let lww = || Strategy::LastWriteWins;
        vec![
            plain("last-write-wins", lww()),
            Self { clocks: [0, 1000], ..plain("last-write-wins, a clock ahead", lww()) },
            plain("server-wins", Strategy::ServerWins),
            plain("client-wins", Strategy::ClientWins),
            plain("merge", Strategy::Merge),
            Self { fresh: true, ..plain("new devices", lww()) },
            Self { refusing: true, ..plain("refusals", lww()) },
            Self { together: true, ..plain("transactions", lww()) },
            Self { together: true, ..plain("transactions, server-wins", Strategy::ServerWins) },
            Self { together: true, ..plain("transactions, client-wins", Strategy::ClientWins) },
            Self { together: true, refusing: true, ..plain("transactions, refusals", lww()) },
            Self { purge: true, ..plain("purge", lww()) },
            Self { purge: true, ..plain("purge, server-wins", Strategy::ServerWins) },
            // A restore to any earlier state, at any time, multiplies what can happen by a hundred.
            Self { restore: true, edits: 2, ..plain("restore", lww()) },
            Self { restore: true, edits: 2, ..plain("restore, client-wins", Strategy::ClientWins) },
            Self { restore: true, edits: 2, fresh: true, ..plain("restore, new devices", lww()) },
        ]
    }

    /// The variant of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|variant| variant.name == name)
    }

    /// The same with fewer or more edits.
    #[must_use]
    pub fn with_edits(self, edits: usize) -> Self {
        Self { edits, ..self }
    }

    /// Whether the two devices are alike, so that it does not matter which of them begins.
    pub fn is_symmetric(&self) -> bool {
        self.clocks[0] == self.clocks[1]
    }
}
