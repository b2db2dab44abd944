//! What the cursors of a [`SimpleRemote`](super::SimpleRemote) hold.

use super::remote_store::{Mark, RemoteRow};
use crate::{clock::Millis, cursor::Cursor, ids::RecordId, ids::Seq, remote::RemoteError};

/// Up to where a table was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Place {
    /// How many rows were handed out so far: the seq of the last.
    pub(super) count: Seq,
    /// Whether nothing was left to read.
    pub(super) ended: bool,
    /// The last row; absent before the first.
    pub(super) mark: Option<Mark>,
}

impl Place {
    /// Longest part of an id that a cursor carries, so that it stays a cursor. A longer id is cut: its row, and those
    /// whose ids begin alike, are read again.
    const ID_BYTES: usize = 400;

    /// The place behind a row.
    pub(super) fn after(row: &RemoteRow, count: Seq) -> Self {
        let id = row.id.as_str();
        let id = id[..id.floor_char_boundary(Self::ID_BYTES)].parse().ok();
        Self { count, ended: false, mark: Some(Mark { updated_at: row.updated_at, id }) }
    }

    /// Where to read on. What follows an end was written later, but perhaps stamped up to `overlap` earlier.
    pub(super) fn since(&self, overlap: Millis) -> Option<Mark> {
        match &self.mark {
            Some(mark) if self.ended && overlap > 0 => {
                Some(Mark { updated_at: mark.updated_at.saturating_sub(overlap), id: None })
            }
            mark => mark.clone(),
        }
    }

    pub(super) fn cursor(&self) -> Cursor {
        let Self { count, ended, mark } = self;
        let ended = u8::from(*ended);
        Cursor::new(match mark {
            None => format!("{count}.{ended}"),
            Some(Mark { updated_at, id: None }) => format!("{count}.{ended}.{updated_at}"),
            Some(Mark { updated_at, id: Some(id) }) => format!("{count}.{ended}.{updated_at}.{id}"),
        })
    }

    /// # Errors
    /// [`RemoteError::Refused`] where the cursor was not made here.
    pub(super) fn parse(cursor: Option<&Cursor>) -> Result<Self, RemoteError> {
        let Some(cursor) = cursor else { return Ok(Self::default()) };
        read(cursor.as_str())
            .ok_or_else(|| RemoteError::Refused { code: "invalid".into(), message: "not a cursor".into() })
    }
}

fn read(token: &str) -> Option<Place> {
    let mut parts = token.splitn(4, '.');
    let count = parts.next()?.parse().ok()?;
    let ended = match parts.next()? {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    let Some(updated_at) = parts.next() else { return Some(Place { count, ended, mark: None }) };
    let updated_at = updated_at.parse().ok()?;
    let id = parts.next().map(str::parse::<RecordId>).transpose().ok()?;
    Some(Place { count, ended, mark: Some(Mark { updated_at, id }) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str) -> RemoteRow {
        RemoteRow { id: id.parse().unwrap(), updated_at: 7, writer: None, record: None }
    }

    #[test]
    fn a_place_survives_its_cursor() {
        let long = "é".repeat(500);
        for id in ["a", "a.b.c", "-1", "\u{1}", "\0", "表 😀", long.as_str()] {
            let place = Place { ended: true, ..Place::after(&row(id), 3) };
            assert_eq!(Place::parse(Some(&place.cursor())).unwrap(), place, "{id}");
            assert!(place.cursor().as_str().len() <= Cursor::MAX_BYTES);
        }
        let start = Place::default();
        assert_eq!(Place::parse(Some(&start.cursor())).unwrap(), start);
        assert_eq!(Place::parse(None).unwrap(), start);
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for token in ["", "?", "1", "1.2", "x.0", "1.0.x", "1.0.5."] {
            assert!(Place::parse(Some(&Cursor::new(token))).is_err(), "{token}");
        }
    }

    #[test]
    fn only_behind_an_end_reading_goes_back() {
        let midst = Place::after(&row("a"), 1);
        let end = Place { ended: true, ..midst.clone() };
        assert_eq!(midst.since(5), midst.mark);
        assert_eq!(end.since(0), end.mark);
        assert_eq!(end.since(5), Some(Mark { updated_at: 2, id: None }));
        assert_eq!(Place::default().since(5), None);
    }
}
