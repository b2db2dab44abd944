//! [`tag`]: what finds a record's entries in the queue.
//!
//! Ids are long and often in no order. An index of them is large, and every edit changes a page of it that no other edit has changed lately:
//! read, logged, synced and moved for one entry. A number made of the id takes a third of the room.

use crate::sum::Sum;

/// How many bits say how an id begins, and how many what it is.
const HALF: u32 = 24;

/// So many bytes of an id are its beginning. In those that begin with the time (UUIDs of version 7, ULIDs, object ids) it is the same for a
/// second, or for a minute.
const BEGINNING: usize = 8;

/// A record's number: few have the same, and whoever looks for one also compares its name. Those whose ids begin alike stand together, so that
/// what is made one after the other is found on few pages. SQLite keeps it in six bytes.
pub(crate) fn tag(n: i64, id: &str) -> i64 {
    let beginning = &id.as_bytes()[..id.len().min(BEGINNING)];
    let begins = half(Sum::new().int(n).bytes(beginning));
    let is = half(Sum::new().text(id));
    let unused = i64::BITS - 2 * HALF;
    (begins << HALF | is) << unused >> unused
}

fn half(sum: Sum) -> i64 {
    let sum = sum.end();
    (sum ^ sum >> 32) & ((1 << HALF) - 1)
}

/// The parameters of `tag = ? AND tbl = ? AND id = ?`, which finds a record's entries, and what else a statement takes after them.
macro_rules! of {
    ($n:expr, $id:expr $(, $more:expr)*) => {
        rusqlite::params![$crate::tag::tag($n, $id), $n, $id $(, $more)*]
    };
}
pub(crate) use of;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tags_are_spread_out_also_where_ids_begin_alike_and_tell_tables_apart() {
        for prefix in ["", "a rather long beginning"] {
            let tags: BTreeSet<i64> = (0..10_000).map(|n| tag(1, &format!("{prefix}{n}"))).collect();
            assert!(tags.len() > 9_980, "{} different ones", tags.len());
            assert!(tags.iter().all(|tag| (-1 << 47..1 << 47).contains(tag)));
        }
        assert_ne!(tag(1, "a"), tag(2, "a"));
    }

    #[test]
    fn what_begins_alike_stands_together() {
        let of_a_minute = |n: i32| tag(1, &format!("018f2c6e-7b{n:02x}-7c3d-9e4f-5a6b7c8d9e0f"));
        let later = tag(1, "018f2c6f-7b1a-7c3d-9e4f-5a6b7c8d9e0f");
        let (first, last) =
            ((0..200).map(of_a_minute).min().unwrap(), (0..200).map(of_a_minute).max().unwrap());
        assert!(last - first < 1 << HALF);
        assert!(!(first..=last).contains(&later));
    }

    /// They are kept in files.
    #[test]
    fn a_tag_is_the_same_in_every_version() {
        assert_eq!(
            [tag(1, "a"), tag(2, "018f2c6e-7b1a-7c3d-9e4f-5a6b7c8d9e0f")],
            [122_210_667_669_091, 134_991_975_181_782]
        );
    }
}
