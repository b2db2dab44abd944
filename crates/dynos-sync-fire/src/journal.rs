//! What a device's program has committed, as it knows itself.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// A record that one device alone writes: number of the last edit, and both fields.
pub(crate) type Own = (i64, String, String);

/// The last edit of a contended record by one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    /// `None`: it was deleted.
    pub(crate) n: Option<i64>,
    pub(crate) began: SystemTime,
    pub(crate) ended: SystemTime,
}

/// All that a device's program has committed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    pub(crate) n: i64,
    pub(crate) transactions: u64,
    pub(crate) own: BTreeMap<String, Own>,
    pub(crate) hot: BTreeMap<String, Last>,
    pub(crate) gone: BTreeMap<String, Last>,
}

/// Clocks of one machine, read in different places.
const BLUR: Duration = Duration::from_millis(5);

/// What is wrong with the version of a contended record that is there in the end: `winner` and `n` wrote it, or nobody did.
///
/// With `deletes`, a deletion may have won over a later edit.
pub(crate) fn fault(
    lasts: &[(usize, Option<&Last>)],
    winner: Option<(usize, i64)>,
    deletes: bool,
) -> Option<String> {
    let Some((winner, n)) = winner else {
        let written = lasts.iter().any(|(_, last)| last.is_some());
        return (written && !deletes).then(|| "is gone, and nobody has deleted it".to_owned());
    };
    let Some(own) = lasts.iter().find(|(device, _)| *device == winner).and_then(|(_, last)| *last) else {
        return Some(format!("was never written by device {winner}"));
    };
    if own.n != Some(n) {
        return Some(format!("is edit {n} of device {winner}, whose last one was {:?}", own.n));
    }
    let later = |last: &Last| last.began > own.ended + BLUR;
    let later = lasts.iter().find(|(_, last)| last.is_some_and(later)).filter(|_| !deletes);
    later.map(|(device, last)| {
        let (n, pause) =
            (last.and_then(|last| last.n), last.and_then(|last| last.began.duration_since(own.ended).ok()));
        format!("is edit {n:?} of device {winner}, but device {device} wrote {n:?} {pause:?} later")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(n: i64, at: u64) -> Last {
        let time = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        Last { n: Some(n), began: time(at), ended: time(at + 1) }
    }

    #[test]
    fn the_last_write_wins_and_nothing_else() {
        let (early, late) = (last(7, 100), last(8, 200));
        let lasts = [(0, Some(&early)), (1, Some(&late)), (2, None)];
        assert_eq!(fault(&lasts, Some((1, 8)), false), None);
        for (winner, word) in [
            (Some((0, 7)), "later"),
            (Some((1, 6)), "whose last one"),
            (Some((2, 1)), "never written"),
            (None, "is gone"),
        ] {
            let found = fault(&lasts, winner, false);
            assert!(found.as_ref().is_some_and(|found| found.contains(word)), "{winner:?}: {found:?}");
        }
        assert_eq!(fault(&lasts, None, true), None, "somebody may have deleted it");
        assert_eq!(fault(&lasts, Some((0, 7)), true), None);
    }

    #[test]
    fn writes_at_the_same_time_may_end_either_way() {
        let (one, other) = (last(1, 100), last(2, 102));
        let lasts = [(0, Some(&one)), (1, Some(&other))];
        assert_eq!(fault(&lasts, Some((0, 1)), false), None);
        assert_eq!(fault(&lasts, Some((1, 2)), false), None);
    }
}
