//! Times as they are shown, and durations as they are typed.

use std::time::Duration;

use dynos_sync::core::Millis;
use jiff::Timestamp;

/// A time in RFC 3339, in UTC.
pub(crate) fn rfc3339(at: Millis) -> String {
    Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |time| format!("{time:.3}"))
}

/// Now, in milliseconds since 1970.
pub(crate) fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

/// Reads a duration: a whole number and `s`, `m`, `h` or `d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let fault = || "use a number and a unit: 45m, 12h, 30d".to_owned();
    let unit = text.chars().last().ok_or_else(fault)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(fault()),
    };
    let number = text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok()).ok_or_else(fault)?;
    match number.checked_mul(seconds) {
        Some(0) => Err("it has to be longer than nothing".to_owned()),
        // Longer than anybody needs, and short enough for every calculation with it.
        Some(total) if total <= 1000 * 366 * 24 * 60 * 60 => Ok(Duration::from_secs(total)),
        _ => Err("it has to be at most 366000d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["", "d", "3", "-1d", "1.5h", "0s", "3ö", "99999999999999999d", "18446744073709551615s"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
