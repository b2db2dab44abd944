//! Last write wins.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Conflict, Resolution};
use crate::{clock::Millis, record::Fields};

pub(super) fn decide(conflict: &Conflict) -> Resolution {
    if local_is_later(conflict) { Resolution::KeepLocal } else { Resolution::KeepRemote }
}

/// Whether the local version was written later. Ties and times that cannot be read are the server's, so that
/// every device decides alike.
///
/// An `updated_at` counts only where its own edit set it: a program that changes a row and leaves the column
/// alone would else be judged by the time of somebody's earlier edit.
pub(super) fn local_is_later(conflict: &Conflict) -> bool {
    let stamp = |side: &Option<Fields>| -> Option<Value> {
        side.as_ref()?.get("updated_at").filter(|value| !value.is_null()).cloned()
    };
    let before = stamp(&conflict.base);
    let set_by = |side: &Option<Fields>| stamp(side).filter(|value| before.as_ref() != Some(value));
    match (set_by(&conflict.local), set_by(&conflict.remote)) {
        (Some(local), Some(remote)) => later(&local, &remote),
        _ => conflict.local_at > conflict.remote_at,
    }
}

fn later(local: &Value, remote: &Value) -> bool {
    match (instant(local), instant(remote)) {
        (Some(local), Some(remote)) => local.cmp(&remote) == Ordering::Greater,
        _ => false,
    }
}

/// Reads RFC 3339 text or integer milliseconds, as nanoseconds. A text without a zone is not an instant.
fn instant(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => {
            let millis: Millis = number.as_i64()?;
            Some(i128::from(millis) * 1_000_000)
        }
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_nanosecond),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::RecordKey, record::fields};
    use serde_json::json;

    fn local_wins(local: Value, remote: Value) -> bool {
        let version = |at: Value| Some(fields([("updated_at", at)]));
        let key = RecordKey::new("t", "1").unwrap();
        // The edit times say the opposite of what the table expects, so that only updated_at can decide.
        let conflict = Conflict {
            key,
            base: None,
            local: version(local),
            remote: version(remote),
            local_at: 0,
            remote_at: 9,
        };
        local_is_later(&conflict)
    }

    #[test]
    fn updated_at_decides_in_either_notation() {
        for (local, remote, expected) in [
            (json!("2026-01-01T00:00:01Z"), json!("2026-01-01T00:00:00Z"), true),
            (json!("2026-01-01T00:00:00Z"), json!("2026-01-01T00:00:01Z"), false),
            (json!("2026-01-01T01:00:00+02:00"), json!("2026-01-01T00:00:00Z"), false),
            (json!("2026-01-01T00:00:00.000000001Z"), json!("2026-01-01T00:00:00Z"), true),
            (json!(1_767_225_600_001_i64), json!("2026-01-01T00:00:00Z"), true),
            (json!(5), json!(5), false),
            (json!("soon"), json!("2026-01-01T00:00:00Z"), false),
            (json!("2026-01-01T00:00:00Z"), json!("soon"), false),
            (json!("2026-01-01 00:00:01"), json!("2026-01-01T00:00:00Z"), false),
            // Beyond 32 bits of seconds, before 1970, the last of all times.
            (json!("2038-01-19T03:14:08Z"), json!("2038-01-19T03:14:07Z"), true),
            (json!("9999-12-30T22:00:00Z"), json!("2038-01-19T03:14:08Z"), true),
            (json!("1970-01-01T00:00:00Z"), json!("1969-12-31T23:59:59Z"), true),
            (json!(-1), json!("1969-12-31T23:59:59.998Z"), true),
            (json!(i64::MAX), json!("9999-12-30T22:00:00Z"), true),
            // A leap second is not later than the second after it.
            (json!("2016-12-31T23:59:60Z"), json!("2016-12-31T23:59:58Z"), true),
            (json!("2016-12-31T23:59:60Z"), json!("2017-01-01T00:00:01Z"), false),
        ] {
            assert_eq!(local_wins(local.clone(), remote.clone()), expected, "{local} against {remote}");
        }
    }

    #[test]
    fn without_both_stamps_the_edit_times_decide() {
        assert!(!local_wins(json!("2026-01-01T00:00:00Z"), json!(null)));
    }

    #[test]
    fn a_stamp_that_the_edit_did_not_set_does_not_count() {
        let version =
            |at: &str, title: &str| Some(fields([("updated_at", at.into()), ("title", title.into())]));
        let conflict = Conflict {
            key: RecordKey::new("t", "1").unwrap(),
            base: version("2026-01-01T00:00:00Z", "a"),
            local: version("2026-01-01T00:00:00Z", "b"),
            remote: version("2026-01-01T00:00:05Z", "c"),
            local_at: 9,
            remote_at: 5,
        };
        assert!(local_is_later(&conflict));
    }
}
