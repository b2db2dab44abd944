//! The token behind a cursor: `incarnation.seq`, or `incarnation.seq.floor.end` in the middle of a walk.
//!
//! A page does not list what was changed again later, so who stands behind it has seen the history up to `end`, where it
//! went then, in part. Had the end been lost, what was passed over would never be listed.
//!
//! The incarnation is the one in which `end`, or else `seq`, was committed, so one history gives one token for one place,
//! however often the server was restarted since.
//!
//! A replica that starts anew cannot miss a deletion that was purged before it started; `floor` says where the
//! purging stood then. Without it the second page of a large table would be answered `purged` for ever.
//!
//! An incarnation's id begins with the time at which it started. Where a cursor's incarnation is unknown (the
//! server was restored from a copy that is older than it), what both histories share is the known history
//! before that time.

use dynos_sync_core::{Cursor, Millis, Seq};

/// The name of one life of the server's process: when it began, and random bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incarnation(String);

impl Incarnation {
    const TIME_DIGITS: usize = 11;
    const DIGITS: usize = Self::TIME_DIGITS + 16;

    /// Names an incarnation. `started` has to be later than that of every earlier one of the history.
    pub(crate) fn new(started: Millis, random: u64) -> Self {
        let started = started.clamp(0, (1 << (4 * Self::TIME_DIGITS)) - 1);
        Self(format!("{started:0width$x}{random:016x}", width = Self::TIME_DIGITS))
    }

    /// Reads a name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == Self::DIGITS && text.as_bytes().iter().all(hex)).then(|| Self(text.to_owned()))
    }

    /// When it began.
    pub(crate) fn started(&self) -> Millis {
        i64::from_str_radix(self.time(), 16).unwrap_or(0)
    }

    /// As [`started`](Self::started), as text: names that sort before it began earlier.
    pub(crate) fn time(&self) -> &str {
        &self.0[..Self::TIME_DIGITS]
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A cursor, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The incarnation in which `end` was committed.
    pub(crate) incarnation: Incarnation,
    /// The newest change seen.
    pub(crate) seq: Seq,
    /// The purged tombstones up to here cannot be missed.
    pub(crate) floor: Seq,
    /// How far the history went when the page was read that ends here; `seq` where nothing followed.
    pub(crate) end: Seq,
}

impl Position {
    /// Reads a token; `None` where this server cannot have made it.
    pub(crate) fn parse(cursor: &Cursor) -> Option<Self> {
        let mut parts = cursor.as_str().split('.');
        let incarnation = Incarnation::parse(parts.next()?)?;
        let seq = number(parts.next()?)?;
        let floor = parts.next().map_or(Some(0), number)?;
        let end = parts.next().map_or(Some(seq), number)?;
        (parts.next().is_none() && end >= seq).then_some(Self { incarnation, seq, floor, end })
    }

    /// The token. Floor and end are written only where they say something, so that equal places have equal tokens.
    pub(crate) fn cursor(&self) -> Cursor {
        let Self { incarnation: Incarnation(incarnation), seq, floor, end } = self;
        let floor = if floor > seq { *floor } else { 0 };
        Cursor::new(match end > seq || floor > 0 {
            true => format!("{incarnation}.{seq}.{floor}.{end}"),
            false => format!("{incarnation}.{seq}"),
        })
    }
}

/// A way in for the fuzz targets: what a token says (the newest change seen, and the end), and how it is written again;
/// `None` where this server cannot have made it.
#[cfg(fuzzing)]
pub fn reread(cursor: &Cursor) -> Option<(Seq, Seq, Cursor)> {
    let position = Position::parse(cursor)?;
    Some((position.seq, position.end, position.cursor()))
}

/// Numbers as the database can keep them.
fn number(digits: &str) -> Option<Seq> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| plain && i64::try_from(*number).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_are_written() {
        let incarnation = Incarnation::new(1_700_000_000_000, 7);
        assert_eq!(incarnation.started(), 1_700_000_000_000);
        for (seq, floor, end, length) in [
            (0, 0, 0, 29),
            (12, 0, 12, 30),
            (12, 12, 12, 30),
            (12, 13, 12, 36),
            (12, 0, 13, 35),
            (12, 13, 14, 36),
        ] {
            let position = Position { incarnation: incarnation.clone(), seq, floor, end };
            let cursor = position.cursor();
            assert_eq!(cursor.as_str().len(), length);
            let floor = if floor > seq { floor } else { 0 };
            assert_eq!(Position::parse(&cursor), Some(Position { floor, ..position }));
        }
    }

    #[test]
    fn what_this_server_cannot_have_written_is_refused() {
        let id = Incarnation::new(1, 1).0;
        for token in [
            String::new(),
            "x.1".to_owned(),
            id.clone(),
            format!("{id}."),
            format!("{id}.-1"),
            format!("{id}.+1"),
            format!("{id}.2.0.1"),
            format!("{id}.1.2.3.4"),
            format!("{id}.9223372036854775808"),
            format!("{}.1", id.to_uppercase().replace('0', "A")),
        ] {
            assert_eq!(Position::parse(&Cursor::new(token.clone())), None, "{token}");
        }
    }
}
