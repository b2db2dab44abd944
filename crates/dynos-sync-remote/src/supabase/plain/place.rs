//! What the cursors of plain mode hold.

use dynos_sync_core::{Cursor, RemoteError, Seq};
use serde::{Deserialize, Serialize};

use super::time::Micros;

/// How far a replica has read a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// What its edits may build on: every version of a row that was written up to here was listed to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seen: Option<Micros>,
    /// Where to read on; absent for the first row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<Mark>,
    /// The walk through the table that is under way; absent behind its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) walk: Option<Walk>,
}

/// A place in a table's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    /// A time of change.
    pub(super) at: Micros,
    /// The last id of that time before the mark; where it is absent no row of that time is before the mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// Whether the id is only how a longer one begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) cut: bool,
}

/// A walk through a table, page by page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Walk {
    /// The server's time when it began, or a little earlier.
    pub(super) began: Micros,
    /// The number of the last change that was listed.
    pub(super) last: Seq,
}

impl Walk {
    /// How far the database's clock may be past [`began`](Self::began): the `Date` header counts whole seconds, servers renew
    /// it once a second, and the gateway's clock is not the database's.
    const SLACK: Micros = 5_000_000;

    /// The latest time that the server may have given a row when the walk began. Rows from later than that carry a time that
    /// somebody else's clock made up.
    pub(super) fn latest(&self) -> Micros {
        self.began.saturating_add(Self::SLACK)
    }
}

impl Place {
    const VERSION: &str = "plain1:";
    /// Longest id in a cursor, in bytes of JSON: so that the cursor stays one.
    const ID_BYTES: usize = 300;

    /// The place behind a row that was just listed.
    pub(super) fn after(&self, at: Micros, id: &str, walk: Walk) -> Self {
        // Others of that very time may come with the next page.
        let seen = self.seen.max(Some(at.saturating_sub(1).min(walk.latest())));
        Self { seen, from: Some(Mark::behind(at, id)), walk: Some(walk) }
    }

    /// The place where a walk has ended. What may still be committed late is read again from here: all that carries a time
    /// of the last `window` before the walk began.
    pub(super) fn ended(self, walk: &Walk, window: Micros) -> Self {
        let Some(last) = self.from else { return Self { walk: None, ..self } };
        let seen = self.seen.max(Some(last.at.min(walk.latest())));
        let settled = walk.began.saturating_sub(window);
        let from =
            if window == 0 || last.at <= settled { last } else { Mark { at: settled, id: None, cut: false } };
        Self { seen, from: Some(from), walk: None }
    }

    /// Whether nothing that was committed `window` before a time can come late any more.
    pub(super) fn is_settled(&self, at: Micros, window: Micros) -> bool {
        let settled = at.saturating_sub(window);
        self.walk.is_none() && self.from.as_ref().is_none_or(|from| from.at <= settled && from.id.is_some())
    }

    pub(super) fn cursor(&self) -> Cursor {
        let json = serde_json::to_string(self).unwrap_or_default();
        Cursor::new(format!("{}{json}", Self::VERSION))
    }

    /// # Errors
    /// [`RemoteError::Refused`] where the cursor was not made here.
    pub(super) fn parse(cursor: Option<&Cursor>) -> Result<Self, RemoteError> {
        let Some(cursor) = cursor else { return Ok(Self::default()) };
        let json = cursor.as_str().strip_prefix(Self::VERSION);
        json.and_then(|json| serde_json::from_str(json).ok()).ok_or_else(|| RemoteError::Refused {
            code: "invalid".to_owned(),
            message: "the cursor is none of plain mode: begin the table anew".to_owned(),
        })
    }
}

impl Mark {
    fn behind(at: Micros, id: &str) -> Self {
        let size = |id: &str| serde_json::to_string(id).map_or(usize::MAX, |json| json.len());
        let mut kept = id;
        while size(kept) > Place::ID_BYTES {
            let end = kept.floor_char_boundary(kept.len() - 1);
            kept = &kept[..end];
        }
        Self { at, id: Some(kept.to_owned()), cut: kept != id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALK: Walk = Walk { began: 1_000_000_000, last: 7 };

    fn at_row(at: Micros, id: &str) -> Place {
        Place::default().after(at, id, WALK)
    }

    #[test]
    fn a_place_survives_its_cursor() {
        let long = "é".repeat(500);
        for id in ["a", "a.b,c\"\\", "\u{1}", "表 😀", long.as_str(), &"\u{1}".repeat(900)] {
            for place in [at_row(Micros::MAX, id), at_row(Micros::MIN, id), at_row(5, id).ended(&WALK, 9)] {
                let cursor = place.cursor();
                assert!(cursor.as_str().len() <= Cursor::MAX_BYTES, "{}", cursor.as_str().len());
                assert_eq!(Place::parse(Some(&cursor)).unwrap(), place, "{id}");
            }
        }
        assert_eq!(Place::parse(None).unwrap(), Place::default());
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let given = at_row(5, "a").cursor().to_string();
        for token in
            ["", "{}", "plain1:", "plain1:{}x", "plain2:{}", r#"plain1:{"seen":"x"}"#, &format!("{given}x")]
        {
            assert!(Place::parse(Some(&Cursor::new(token))).is_err(), "{token}");
        }
    }

    #[test]
    fn behind_the_end_what_may_be_late_is_read_again() {
        let began = WALK.began;
        for (last, window, from) in [
            (began - 5, 10, Mark { at: began - 10, id: None, cut: false }),
            (began - 10, 10, Mark { at: began - 10, id: Some("a".to_owned()), cut: false }),
            (began + 5, 0, Mark { at: began + 5, id: Some("a".to_owned()), cut: false }),
            (Micros::MAX, 10, Mark { at: began - 10, id: None, cut: false }),
        ] {
            let end = at_row(last, "a").ended(&WALK, window);
            assert_eq!(end.from, Some(from), "{last} {window}");
            assert_eq!(end.walk, None);
        }
        assert_eq!(Place::default().ended(&WALK, 10), Place::default(), "of an empty table");
    }

    #[test]
    fn a_quiet_table_ends_where_it_ended() {
        let end = at_row(WALK.began - 100, "a").ended(&WALK, 10);
        let later = Walk { began: WALK.began + 50, last: 0 };
        assert_eq!(end.clone().ended(&later, 10), end);
        assert!(end.is_settled(WALK.began, 10) && !end.is_settled(WALK.began - 95, 10));
        assert!(
            !at_row(WALK.began, "a").ended(&WALK, 10).is_settled(WALK.began + 100, 10),
            "late rows were not looked for"
        );
        assert!(Place::default().is_settled(0, 10));
    }

    #[test]
    fn edits_build_on_what_was_listed_and_on_no_made_up_time() {
        assert_eq!(at_row(5, "a").seen, Some(4), "there may be others of that time");
        assert_eq!(at_row(5, "a").ended(&WALK, 10).seen, Some(5));
        assert_eq!(at_row(Micros::MAX, "a").ended(&WALK, 10).seen, Some(WALK.latest()));
        let again = Place { seen: Some(9), ..Place::default() };
        assert_eq!(again.after(5, "a", WALK).seen, Some(9), "read again from before");
    }
}
