//! What becomes of a connection or a request, by the dice.

use std::time::Duration;

use super::http;

/// What becomes of a connection, before a byte of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Welcome {
    Served,
    /// Closed at once.
    Refused,
    /// Accepted, and never read.
    HalfOpen,
    /// The server shows a certificate that must not be believed: the one of that number.
    BadCertificate(usize),
}

impl Welcome {
    pub(super) fn roll(dice: &mut fastrand::Rng, rate: f64, bad_certificates: usize) -> Self {
        if dice.f64() >= rate / 3.0 {
            return Self::Served;
        }
        match dice.u8(..4) {
            0 => Self::Refused,
            1 => Self::HalfOpen,
            _ if bad_certificates > 0 => Self::BadCertificate(dice.usize(..bad_certificates)),
            _ => Self::Refused,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    Through,
    /// The server never sees it.
    LoseRequest,
    /// The server answers, and nobody hears it.
    LoseAnswer,
    /// The server sees this share of it, then the connection breaks on both sides.
    CutRequest(f64),
    /// The device sees this share of the answer, then the connection breaks.
    CutAnswer(f64),
    /// The answer is shortened to this share, and claims to be whole.
    Shorten(f64),
    /// It reaches the server late.
    DelayRequest(Duration),
    /// The answer comes late.
    DelayAnswer(Duration),
    /// It reaches the server twice, at the same time.
    Double,
    /// It reaches the server now, and once more later.
    Replay(Duration),
    /// Nobody ever answers.
    Silence,
    /// Somebody else answers.
    Answer(&'static str, Vec<u8>),
    /// It is sent on to another place.
    Away(&'static str),
    /// It is sent on to the same place.
    Again,
}

impl Fate {
    pub(super) fn roll(dice: &mut fastrand::Rng, rate: f64) -> Self {
        if dice.f64() >= rate {
            return Self::Through;
        }
        let (share, pause) = (dice.f64(), Duration::from_millis(dice.u64(..400)));
        match dice.u8(..20) {
            0 => Self::LoseRequest,
            1 | 2 => Self::LoseAnswer,
            3 | 4 => Self::CutRequest(share),
            5 | 6 => Self::CutAnswer(share),
            7 => Self::Shorten(share),
            8 => Self::DelayRequest(pause),
            9 => Self::DelayAnswer(pause),
            10 | 11 => Self::Double,
            12 | 13 => Self::Replay(pause * 5),
            14 => Self::Silence,
            15 => Self::Again,
            16 => Self::Away(ways(dice)),
            17 => wrong_answer(dice),
            _ => error(dice),
        }
    }

    /// The word under which it is counted.
    pub(super) fn name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Through => return None,
            Self::LoseRequest => "request lost",
            Self::LoseAnswer => "answer lost",
            Self::CutRequest(_) => "request cut",
            Self::CutAnswer(_) => "answer cut",
            Self::Shorten(_) => "answer shortened",
            Self::DelayRequest(_) => "request delayed",
            Self::DelayAnswer(_) => "answer delayed",
            Self::Double => "request doubled",
            Self::Replay(_) => "request replayed",
            Self::Silence => "no answer",
            Self::Answer(name, _) => name,
            Self::Away(_) => "redirect elsewhere",
            Self::Again => "redirect here",
        })
    }
}

fn ways(dice: &mut fastrand::Rng) -> &'static str {
    [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ][dice.usize(..5)]
}

fn error(dice: &mut fastrand::Rng) -> Fate {
    let (name, answer) = match dice.u8(..8) {
        0 => ("500", http::error("500 Internal Server Error", "internal", "")),
        1 => (
            "502",
            http::answer("502 Bad Gateway", "content-type: text/html\r\n", b"<html>bad gateway</html>"),
        ),
        2 => ("503", http::error("503 Service Unavailable", "unavailable", "")),
        3 => ("429", http::error("429 Too Many Requests", "rate_limited", "retry-after: 1\r\n")),
        4 => ("429", http::error("429 Too Many Requests", "rate_limited", "retry-after: soon\r\n")),
        5 => ("413", http::error("413 Content Too Large", "too_large", "")),
        6 => ("408", http::error("408 Request Timeout", "unavailable", "")),
        _ => ("401", http::error("401 Unauthorized", "unauthorized", "")),
    };
    Fate::Answer(name, answer)
}

/// What a captive portal, a broken cache or a broken gateway may answer.
fn wrong_answer(dice: &mut fastrand::Rng) -> Fate {
    let json = "content-type: application/json\r\n";
    let answer = match dice.u8(..9) {
        0 => http::answer(
            "200 OK",
            "content-type: text/html\r\n",
            b"<html>please sign in to this network</html>",
        ),
        1 => http::answer("200 OK", json, b""),
        2 => http::answer("200 OK", json, b"{}"),
        3 => http::answer("200 OK", json, b"null"),
        4 => http::answer("200 OK", json, &[b'['; 100_000]),
        5 => http::answer("200 OK", json, br#"{"results":"none","heads":[],"changes":7,"tables":null}"#),
        6 => http::answer("200 OK", &format!("{json}content-encoding: gzip\r\n"), b"this is not gzip"),
        7 => http::answer("204 No Content", "", b""),
        _ => b"\x16\x03\x01 this is no HTTP at all\r\n\r\n".to_vec(),
    };
    Fate::Answer("wrong answer", answer)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_dice_know_every_fate_and_none_when_all_is_calm() {
        let mut dice = fastrand::Rng::with_seed(1);
        let names: BTreeSet<_> = (0..5000).filter_map(|_| Fate::roll(&mut dice, 1.0).name()).collect();
        assert_eq!(names.len(), 20, "{names:?}");
        assert!((0..5000).all(|_| Fate::roll(&mut dice, 0.0).name().is_none()));
        assert!((0..5000).all(|_| Welcome::roll(&mut dice, 0.0, 3) == Welcome::Served));
    }
}
