//! What happened, as somebody outside the engine sees it: every operation that was asked for, and what became of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dynos_sync_core::{Fields, Millis, RecordKey, Value, replica::Resolved};

/// An operation's number. What it writes carries the number, so that every value anywhere tells where it comes from.
pub type OpId = u32;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sets fields, making the record where it is missing.
    Write,
    /// Sets fields of a record that exists.
    Patch,
    /// Deletes the record.
    Remove,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Asked for, not answered yet.
    Open,
    /// Done: the application was told so.
    Acknowledged,
    /// Not done: the application was told so.
    Refused,
    /// Nobody was told: the process was killed, or the disk failed.
    Unknown,
}

/// One operation on one record.
#[derive(Clone, Debug)]
pub struct Op {
    /// Which device.
    pub device: usize,
    /// Which session on it: one more after each logout.
    pub session: u32,
    /// Whose session that is.
    pub user: String,
    /// Operations of one call share a number: all of them are done, or none.
    pub call: u32,
    /// Whether those take effect on the server together, too.
    pub together: bool,
    /// Whether the first version of the application asked for it, which adds something to documents.
    pub tagged: bool,
    /// The record.
    pub key: RecordKey,
    /// What it does.
    pub kind: Kind,
    /// The fields that it sets.
    pub fields: Vec<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why nobody need ever see it, if there is a reason.
    pub excused: Option<&'static str>,
    /// When it was asked for, and when that was answered, in an order of all such events.
    pub span: (u64, u64),
    /// The time at which it was asked for.
    pub at: Millis,
}

impl Op {
    /// Whether it may have taken effect after another: they were under way together, or it was asked for later.
    pub fn may_follow(&self, other: &Self) -> bool {
        self.span.1 > other.span.0
    }
}

/// A field's value at some point, as a place in the trail of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// What an operation wrote.
    Written(OpId),
    /// Nothing: the field, or the record, is not there.
    Nothing,
}

/// Which field of which record.
pub type Spot = (RecordKey, String);

/// What happened so far. Clones are the same history.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) ops: Vec<Op>,
    calls: u32,
    events: u64,
    /// What took the place of what, and where that was seen.
    pub(crate) replaced: BTreeMap<Spot, BTreeSet<(Mark, Mark)>>,
    /// What is kept for somebody to decide about.
    pub(crate) letters: BTreeSet<OpId>,
    pub(crate) violations: Vec<Violation>,
    trace: Trace,
}

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The checker's name.
    pub checker: &'static str,
    /// What was found.
    pub found: String,
}

/// Everything that happened, folded into a number, and its last lines.
#[derive(Debug, Default)]
struct Trace {
    hash: DefaultHasher,
    lines: VecDeque<String>,
    keep: usize,
    print: bool,
}

impl History {
    /// A history that keeps the last lines of its trace, and prints them all where that is wanted.
    pub fn new(keep: usize, print: bool) -> Self {
        let history = Self::default();
        let mut inner = history.lock();
        (inner.trace.keep, inner.trace.print) = (keep, print);
        drop(inner);
        history
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something in the trace.
    #[allow(clippy::print_stderr, reason = "a person has asked to see it")]
    pub fn note(&self, now: Millis, line: &str) {
        let trace = &mut self.lock().trace;
        trace.hash.write_i64(now);
        trace.hash.write(line.as_bytes());
        let line = format!("{:>9.3} {line}", (now % 100_000_000) as f64 / 1000.0);
        if trace.print {
            eprintln!("{line}");
        }
        trace.lines.push_back(line);
        if trace.lines.len() > trace.keep {
            trace.lines.pop_front();
        }
    }

    /// The trace's hash: the same for the same seed.
    pub fn hash(&self) -> u64 {
        self.lock().trace.hash.finish()
    }

    /// The last lines of the trace.
    pub fn tail(&self) -> Vec<String> {
        self.lock().trace.lines.iter().cloned().collect()
    }

    /// Notes that something is not as it must be.
    pub fn violation(&self, checker: &'static str, found: impl Into<String>) {
        let found = found.into();
        self.lock().violations.push(Violation { checker, found });
    }

    /// A number for a call.
    pub fn call(&self) -> u32 {
        let mut inner = self.lock();
        inner.calls += 1;
        inner.calls
    }

    /// Notes an operation that is asked for.
    pub fn ask(&self, mut op: Op) -> OpId {
        let mut inner = self.lock();
        inner.events += 1;
        op.span = (inner.events, u64::MAX);
        inner.ops.push(op);
        OpId::try_from(inner.ops.len() - 1).unwrap_or(OpId::MAX)
    }

    /// Notes what became of an operation.
    pub fn settle(&self, op: OpId, outcome: Outcome) {
        let mut inner = self.lock();
        inner.events += 1;
        let event = inner.events;
        let op = &mut inner.ops[op as usize];
        (op.outcome, op.span.1) = (outcome, event);
    }

    /// The device's process has ended: what was under way may have been done, and will not be any more.
    pub fn interrupt(&self, device: usize) {
        let mut inner = self.lock();
        inner.events += 1;
        let event = inner.events;
        for op in inner.ops.iter_mut().filter(|op| op.device == device && op.outcome == Outcome::Open) {
            (op.outcome, op.span.1) = (Outcome::Unknown, event);
        }
    }

    /// Excuses operations: nobody need ever see them.
    pub fn excuse(&self, reason: &'static str, which: impl Fn(&Op) -> bool) {
        for op in self.lock().ops.iter_mut().filter(|op| op.excused.is_none()) {
            if which(op) {
                op.excused = Some(reason);
            }
        }
    }

    /// Notes that one version of a record took the place of another.
    pub fn replaced(&self, key: &RecordKey, before: Option<&Fields>, after: Option<&Fields>) {
        let mut inner = self.lock();
        for (field, value) in before.into_iter().flatten() {
            let (Some(before), after) = (written(value), mark(after, field)) else { continue };
            if Mark::Written(before) != after {
                let spot = (key.clone(), field.clone());
                inner.replaced.entry(spot).or_default().insert((Mark::Written(before), after));
            }
        }
    }

    /// Notes a decided conflict: its outcome took the place of both sides.
    pub fn conflict(&self, resolved: &Resolved) {
        for side in [&resolved.mine, &resolved.theirs] {
            self.replaced(&resolved.key, side.as_ref(), resolved.outcome.as_ref());
        }
    }

    /// Notes what a dead letter holds.
    pub fn letter(&self, fields: &Fields) {
        let mut inner = self.lock();
        inner.letters.extend(fields.values().filter_map(written));
    }
}

/// What stands in a field of a record.
pub(crate) fn mark(record: Option<&Fields>, field: &str) -> Mark {
    record.and_then(|record| record.get(field)).and_then(written).map_or(Mark::Nothing, Mark::Written)
}

/// The value that an operation writes, with so many bytes of filling.
pub fn value(op: OpId, filling: usize) -> Value {
    Value::String(format!("op{op}:{}", "x".repeat(filling)))
}

/// The operation that wrote a value.
pub fn written(value: &Value) -> Option<OpId> {
    value.as_str()?.strip_prefix("op")?.split_once(':')?.0.parse().ok()
}
