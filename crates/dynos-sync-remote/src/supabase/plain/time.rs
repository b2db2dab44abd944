//! Points of time as PostgreSQL has them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dynos_sync_core::{Limits, Millis, Seq};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Microseconds since 1970-01-01 UTC: PostgreSQL's own resolution. The ends of the range are its infinities.
pub(super) type Micros = i64;

/// The first and the last time that a row may have to be synced: the first years and the last that RFC 3339 can write.
pub(super) const RANGE: [&str; 2] = ["0001-01-01T00:00:00Z", "9999-12-30T00:00:00Z"];

/// Reads a `timestamptz`, or a `timestamp` in UTC, as PostgREST writes them. Beyond the calendar of devices times are as
/// good as infinite.
pub(super) fn parse(text: &str) -> Option<Micros> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.as_microsecond());
    }
    let without_zone = text.parse::<DateTime>().and_then(|time| TimeZone::UTC.to_timestamp(time));
    if let Ok(instant) = without_zone {
        return Some(instant.as_microsecond());
    }
    match text {
        "-infinity" => Some(Micros::MIN),
        "infinity" => Some(Micros::MAX),
        _ if text.ends_with(" BC") => Some(Micros::MIN),
        _ if text.starts_with("9999-") || text.find('-').is_some_and(|year| year > 4) => Some(Micros::MAX),
        _ => None,
    }
}

/// As PostgreSQL reads it, and devices.
pub(super) fn format(at: Micros) -> String {
    match Timestamp::from_microsecond(at) {
        Ok(instant) => instant.to_string(),
        Err(_) if at > 0 => "infinity".to_owned(),
        Err(_) => "-infinity".to_owned(),
    }
}

/// The time that an answer's `Date` header gives: whole seconds.
pub(super) fn parse_date(header: &str) -> Option<Micros> {
    let date: SystemTime = httpdate::parse_http_date(header).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(micros)
}

/// A span as microseconds; no time at all is that long.
pub(super) fn micros(span: Duration) -> Micros {
    Micros::try_from(span.as_micros()).unwrap_or(Micros::MAX)
}

/// As the time of an edit, within what the protocol allows.
pub(super) fn millis(at: Micros) -> Millis {
    (at / 1000).clamp(0, Limits::LATEST)
}

/// As the number of a change, which JSON has to keep.
pub(super) fn seq(at: Micros) -> Seq {
    at.clamp(0, (1 << 53) - 1).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_that_postgres_writes_is_read() {
        for (text, micros) in [
            ("1970-01-01T00:00:00+00:00", 0),
            ("1970-01-01T00:00:00.000001", 1),
            ("1970-01-01T05:30:00.5+05:30", 500_000),
            ("1969-12-31T23:59:59.999999+00:00", -1),
            ("2026-11-26T14:12:49.30449+00:00", 1_795_702_369_304_490),
            ("9999-12-31T23:59:59+00:00", Micros::MAX),
            ("10000-01-01T00:00:00+00:00", Micros::MAX),
            ("0044-03-15T00:00:00+00:00 BC", Micros::MIN),
            ("infinity", Micros::MAX),
            ("-infinity", Micros::MIN),
        ] {
            assert_eq!(parse(text), Some(micros), "{text}");
        }
        for text in ["", "now", "2026", "-"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_read_is_written_so_that_it_is_the_same() {
        for at in [0, 1, -1, 1_795_702_369_304_490, Micros::MAX, Micros::MIN] {
            assert_eq!(parse(&format(at)), Some(at), "{}", format(at));
        }
        assert_eq!(format(1_795_702_369_304_490), "2026-11-26T14:12:49.30449Z");
    }

    #[test]
    fn times_outside_the_protocol_are_moved_to_its_ends() {
        assert_eq!((millis(Micros::MIN), millis(-1), millis(1_999)), (0, 0, 1));
        assert_eq!(millis(Micros::MAX), Limits::LATEST);
        assert_eq!((seq(Micros::MIN), seq(1_999)), (0, 1_999));
        assert!(seq(Micros::MAX) < 1 << 53);
    }

    #[test]
    fn a_date_is_read_to_the_second() {
        assert_eq!(parse_date("Thu, 26 Nov 2026 14:12:49 GMT"), Some(1_795_702_369_000_000));
        assert_eq!(parse_date("yesterday"), None);
    }
}
