//! How long a server asks to be left alone.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// No server gets more than this, however wrong its header.
const MAX: Duration = Duration::from_secs(3600);

/// The `Retry-After` header, in seconds or as a date; a date in the past means at once. `None` where it is
/// missing or neither of the two.
pub(super) fn read(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are more than the most, too.
        return Some(value.parse().map_or(MAX, Duration::from_secs).min(MAX));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    // The server's own clock where it shows it: the device's may be off by years.
    let now = date(headers).unwrap_or(now);
    Some(until.duration_since(now).unwrap_or_default().min(MAX))
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn every_form_is_read() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        for (value, seconds) in [
            ("0", Some(0)),
            (" 17 ", Some(17)),
            ("3600", Some(3600)),
            ("86400", Some(3600)),
            ("99999999999999999999999999", Some(3600)),
            ("Wed, 21 Oct 2026 07:28:30 GMT", Some(30)),
            ("Wednesday, 21-Oct-26 07:28:30 GMT", Some(30)),
            ("Wed Oct 21 07:28:30 2026", Some(30)),
            ("Wed, 21 Oct 2020 07:28:30 GMT", Some(0)),
            ("Mon, 21 Oct 2126 07:28:30 GMT", Some(3600)),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            let read = read(&headers(&[("retry-after", value)]), now);
            assert_eq!(read, seconds.map(Duration::from_secs), "{value:?}");
        }
        assert_eq!(read(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_date_is_measured_by_the_servers_clock() {
        let headers = headers(&[
            ("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT"),
            ("date", "Wed, 21 Oct 2026 07:28:20 GMT"),
        ]);
        assert_eq!(read(&headers, SystemTime::UNIX_EPOCH), Some(Duration::from_secs(10)));
    }
}
