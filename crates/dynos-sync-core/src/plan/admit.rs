//! The server's decision about one entry: the same for every store.

use crate::{
    ids::{Counter, ReplicaId, Seq},
    sabotage::{Mutant, is_on},
    wire::{PushResult, RejectCode},
};

/// What a server keeps of a record's last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastChange {
    /// Its number.
    pub seq: Seq,
    /// Who made it.
    pub writer: ReplicaId,
    /// The maker's counter.
    pub counter: Counter,
}

/// Whether an entry may take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Apply,
    /// A newer entry of the same replica did already.
    Duplicate {
        /// The number of that change.
        seq: Seq,
    },
    /// Somebody else's change came first.
    Conflict {
        /// The number of that change.
        seq: Seq,
    },
}

/// Decides about an entry that was not answered before: compare and set by the base, and the rule for stale
/// counters, without which a request that was delayed on the wire would undo a newer one.
///
/// `base` is the seq of the entry's base cursor, 0 where it has none.
pub fn admit(last: Option<LastChange>, replica: ReplicaId, counter: Counter, base: Seq) -> Admission {
    match last {
        Some(last)
            if last.writer == replica && counter <= last.counter && !is_on(Mutant::NoStaleCounterRule) =>
        {
            Admission::Duplicate { seq: last.seq }
        }
        Some(last) if last.writer != replica && last.seq > base && !is_on(Mutant::NoCompareAndSet) => {
            Admission::Conflict { seq: last.seq }
        }
        _ => Admission::Apply,
    }
}

/// What becomes of the entries of a transaction that cannot take effect as a whole, from what would become of each alone. `remembered`
/// says which had been answered before: those keep their answer.
pub fn none_of(results: Vec<PushResult>, remembered: &[bool]) -> Vec<PushResult> {
    let conflict = results.iter().find_map(|result| match result {
        PushResult::Conflict { seq } => Some(*seq),
        _ => None,
    });
    let refused = |seq: Option<Seq>| match seq {
        Some(seq) => PushResult::Conflict { seq },
        None => PushResult::rejected(RejectCode::Transaction, "another edit of its transaction was refused"),
    };
    let instead = |(result, remembered): (PushResult, &bool)| match result {
        result if *remembered => result,
        result @ PushResult::Conflict { .. } => result,
        result @ PushResult::Rejected { .. } if conflict.is_none() => result,
        _ => refused(conflict),
    };
    results.into_iter().zip(remembered).map(instead).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_transaction_that_cannot_take_effect_nothing_does() {
        let applied = || PushResult::Applied { seq: 7, record: None };
        let duplicate = || PushResult::Duplicate { seq: 3, record: None };
        let conflict = |seq| PushResult::Conflict { seq };
        let rejected = |code| PushResult::rejected(code, "another edit of its transaction was refused");
        let (bad, other) = (RejectCode::Constraint, RejectCode::Transaction);
        for (alone, remembered, together) in [
            (vec![applied(), conflict(5)], vec![false, false], vec![conflict(5), conflict(5)]),
            (
                vec![rejected(bad), conflict(5), conflict(6)],
                vec![false; 3],
                vec![conflict(5), conflict(5), conflict(6)],
            ),
            (vec![applied(), rejected(bad)], vec![false, false], vec![rejected(other), rejected(bad)]),
            (vec![duplicate(), rejected(bad)], vec![true, false], vec![duplicate(), rejected(bad)]),
            (vec![rejected(bad), applied()], vec![true, false], vec![rejected(bad), rejected(other)]),
        ] {
            assert_eq!(none_of(alone.clone(), &remembered), together, "{alone:?}");
        }
    }

    #[test]
    fn every_case() {
        let [us, them] = [ReplicaId::from_random([1; 16]), ReplicaId::from_random([2; 16])];
        let last = |writer, counter| Some(LastChange { seq: 10, writer, counter });
        for (name, last, base, expected) in [
            ("a new record", None, 0, Admission::Apply),
            ("seen by the author", last(them, 99), 10, Admission::Apply),
            ("not seen by the author", last(them, 1), 9, Admission::Conflict { seq: 10 }),
            ("our own, not seen", last(us, 4), 0, Admission::Apply),
            ("our own newer one", last(us, 6), 10, Admission::Duplicate { seq: 10 }),
            ("our own same one", last(us, 5), 0, Admission::Duplicate { seq: 10 }),
        ] {
            assert_eq!(admit(last, us, 5, base), expected, "{name}");
        }
    }
}
