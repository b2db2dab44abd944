//! The workloads by name.

use std::fmt;

use clap::ValueEnum;
use dynos_sync::sqlite::Synchronous;

use super::{Case, cloning, crowd, live, postgres, pulling, pushing, sample::Sample, steady, writing};
use crate::error::Failure;

/// What of a workload a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// Makes what both need, once.
    SetUp,
    /// What the machine does without the engine.
    Limit,
    /// What it does with the engine.
    Ours,
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SetUp => "set-up",
            Self::Limit => "limit",
            Self::Ours => "ours",
        }
    }
}

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    /// write(), one by one, synchronous=NORMAL.
    W1,
    /// write(), one by one, synchronous=FULL.
    W1Full,
    /// write() by 64 tasks at once.
    W64,
    /// write_many().
    Wb,
    /// Plain SQL on a tracked table.
    Wc,
    /// write() with masking and the owner's guard, beside one without.
    R,
    /// Pushes what is queued to a server on its embedded store.
    P,
    /// Pushes what is queued to a server on Postgres: one that DYNOS_BENCH_POSTGRES names, in databases of its own.
    Pp,
    /// First pull, by pages.
    D,
    /// First pull, by a snapshot.
    Ds,
    /// A new database, of a snapshot.
    Dc,
    /// Pulls 100 changed rows of many.
    Di,
    /// Asks for what is new, where nothing is, in 50 tables.
    D0,
    /// Pushes 1,000 rows of many that are queued.
    Q,
    /// A server with many connected devices.
    S,
    /// From a change on one device to its row on another.
    L,
    /// Opens a large database.
    C,
    /// A connected device that has nothing to do.
    Idle,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Those named, in their order; without a name all that can be measured here.
pub(super) fn choose(names: &[Workload]) -> Vec<Workload> {
    if !names.is_empty() {
        return names.to_vec();
    }
    let can_be = |workload: &&Workload| {
        **workload != Workload::Pp || std::env::var_os("DYNOS_BENCH_POSTGRES").is_some()
    };
    Workload::value_variants().iter().filter(can_be).copied().collect()
}

impl Workload {
    /// As it is called on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it is, and beside what.
    pub(super) fn title(self) -> (&'static str, &'static str) {
        match self {
            Self::W1 => ("write() one by one, NORMAL", "the same two inserts, one transaction each"),
            Self::W1Full => ("write() one by one, FULL", "the same two inserts, one transaction each"),
            Self::W64 => ("write() by 64 tasks", "the same two inserts, 1,000 rows a transaction"),
            Self::Wb => ("write_many()", "the same two inserts, 1,000 rows a transaction"),
            Self::Wc => ("plain SQL on a tracked table", "the same on an untracked table"),
            Self::R => ("write() masked and guarded", "write() without"),
            Self::P => ("push to the embedded server", "the same bytes posted and inserted"),
            Self::Pp => ("push to a server on Postgres", "COPY of the same rows"),
            Self::D => ("first pull, JSON", "the same bytes fetched, parsed and inserted"),
            Self::Ds => ("first pull, snapshot", "the limit of d"),
            Self::Dc => ("clone", "the snapshot fetched, unpacked and written"),
            Self::Di => ("pull of 100 changed rows", "the same in a table of 1,000 rows"),
            Self::D0 => ("nothing new in 50 tables", "one HTTP round trip"),
            Self::Q => ("push of 1,000 queued rows", "the same with 1,000 queued"),
            Self::S => ("many connected devices", "-"),
            Self::L => ("change here to row there", "one POST and one event"),
            Self::C => ("cold open, 10,000 pending", "opening it with SQLite alone"),
            Self::Idle => ("idle, connected, seconds", "-"),
        }
    }

    /// How many rows, unless somebody says otherwise.
    pub(super) fn rows(self) -> u64 {
        match self {
            Self::W1 | Self::R => 20_000,
            Self::W1Full => 2000,
            Self::D0 | Self::L => 200,
            Self::S => 1000,
            Self::Idle => 60,
            Self::Di | Self::Q | Self::C => 1_000_000,
            Self::W64 | Self::Wb | Self::Wc | Self::P | Self::Pp | Self::D | Self::Ds | Self::Dc => 100_000,
        }
    }

    /// How often it is measured, where somebody says how often: what takes a minute and has no limit beside it, once.
    pub(super) fn runs(self, asked: usize) -> usize {
        if self == Self::Idle { asked.min(1) } else { asked }
    }

    /// One side of it, once.
    pub(super) async fn run(self, side: Side, case: &Case) -> Result<Option<Sample>, Failure> {
        use Side::{Limit, Ours, SetUp};
        let sample = match (self, side) {
            (Self::P | Self::Pp, SetUp) => return pushing::set_up(case).await.map(|()| None),
            (Self::D | Self::Ds | Self::Dc, SetUp) => return pulling::set_up(case).await.map(|()| None),
            (Self::Di, SetUp) => return steady::set_up_delta(case).await.map(|()| None),
            (Self::Q, SetUp) => return steady::set_up_drain(case).await.map(|()| None),
            (Self::C, SetUp) => return steady::set_up_open(case).await.map(|()| None),
            (_, SetUp) | (Self::S | Self::Idle, Limit) => return Ok(None),
            (Self::W1, Limit) => writing::one_by_one_limit(case, "NORMAL")?,
            (Self::W1, Ours) => writing::one_by_one(case, Synchronous::Normal).await?,
            (Self::W1Full, Limit) => writing::one_by_one_limit(case, "FULL")?,
            (Self::W1Full, Ours) => writing::one_by_one(case, Synchronous::Full).await?,
            (Self::W64 | Self::Wb, Limit) => writing::many_limit(case)?,
            (Self::W64, Ours) => writing::by_64_tasks(case).await?,
            (Self::Wb, Ours) => writing::many(case).await?,
            (Self::Wc, side) => writing::plain_sql(case, side == Ours).await?,
            (Self::R, side) => writing::guarded(case, side == Ours).await?,
            (Self::P, Limit) => pushing::push_limit(case).await?,
            (Self::P, Ours) => pushing::push(case).await?,
            (Self::Pp, Limit) => postgres::copy(case).await?,
            (Self::Pp, Ours) => postgres::push(case).await?,
            (Self::D | Self::Ds, Limit) => pulling::first_limit(case).await?,
            (Self::D, Ours) => pulling::by_pages(case).await?,
            (Self::Ds, Ours) => pulling::by_snapshot(case).await?,
            (Self::Dc, Limit) => cloning::fetch(case).await?,
            (Self::Dc, Ours) => cloning::clone(case).await?,
            (Self::Di, Limit) => steady::delta_few(case).await?,
            (Self::Di, Ours) => steady::delta(case).await?,
            (Self::D0, Limit) => steady::round_trip(case).await?,
            (Self::D0, Ours) => steady::nothing_new(case).await?,
            (Self::Q, Limit) => steady::drain_few(case).await?,
            (Self::Q, Ours) => steady::drain(case).await?,
            (Self::S, Ours) => crowd::crowd(case).await?,
            (Self::L, Limit) => live::post_to_event(case).await?,
            (Self::L, Ours) => live::change_to_change(case).await?,
            (Self::C, Limit) => steady::open_limit(case)?,
            (Self::C, Ours) => steady::open(case).await?,
            (Self::Idle, Ours) => live::idle(case).await?,
        };
        Ok(Some(sample))
    }
}
