//! What a token claims.

use serde::Deserialize;

use super::{Denied, Identity};

/// The longest subject, in bytes.
const SUBJECT_BYTES: usize = 256;

#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    sub: String,
    /// Seconds since 1970, possibly with a fraction.
    exp: f64,
    nbf: Option<f64>,
    aud: Option<Audience>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Claims {
    /// Checks the claims at a time, in milliseconds.
    pub(super) fn check(self, now: i64, leeway: i64, audience: Option<&str>) -> Result<Identity, Denied> {
        let until = millis(self.exp).saturating_add(leeway);
        if until <= now {
            return Err(Denied::Expired);
        }
        if self.nbf.is_some_and(|nbf| millis(nbf) > now.saturating_add(leeway)) {
            return Err(Denied::Invalid("it is not valid yet"));
        }
        if audience.is_some_and(|audience| !self.aud.is_some_and(|claimed| claimed.names(audience))) {
            return Err(Denied::Invalid("it is meant for another audience"));
        }
        if self.sub.is_empty() || self.sub.len() > SUBJECT_BYTES {
            return Err(Denied::Invalid("its subject is empty or too long"));
        }
        Ok(Identity { subject: self.sub, until })
    }
}

impl Audience {
    fn names(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

/// A cast of a float saturates, which is what is wanted of a date that is out of range.
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(claims: serde_json::Value, audience: Option<&str>) -> Result<Identity, Denied> {
        serde_json::from_value::<Claims>(claims).unwrap().check(100_000, 5_000, audience)
    }

    #[test]
    fn every_claim() {
        use serde_json::json;
        let alice = |until| Ok(Identity { subject: "alice".to_owned(), until });
        let long = "x".repeat(257);
        for (name, claims, audience, expected) in [
            ("plain", json!({"sub": "alice", "exp": 101}), None, alice(106_000)),
            ("a fraction", json!({"sub": "alice", "exp": 101.5}), None, alice(106_500)),
            ("in the leeway", json!({"sub": "alice", "exp": 96}), None, alice(101_000)),
            ("over", json!({"sub": "alice", "exp": 95}), None, Err(Denied::Expired)),
            ("long over", json!({"sub": "alice", "exp": -1e300}), None, Err(Denied::Expired)),
            ("for ever", json!({"sub": "alice", "exp": 1e300}), None, alice(i64::MAX)),
            ("soon", json!({"sub": "alice", "exp": 200, "nbf": 105}), None, alice(205_000)),
            (
                "not yet",
                json!({"sub": "alice", "exp": 200, "nbf": 106}),
                None,
                Err(Denied::Invalid("it is not valid yet")),
            ),
            ("ours", json!({"sub": "alice", "exp": 200, "aud": "us"}), Some("us"), alice(205_000)),
            (
                "ours too",
                json!({"sub": "alice", "exp": 200, "aud": ["them", "us"]}),
                Some("us"),
                alice(205_000),
            ),
            ("unasked", json!({"sub": "alice", "exp": 200, "aud": "them"}), None, alice(205_000)),
            (
                "theirs",
                json!({"sub": "alice", "exp": 200, "aud": ["them"]}),
                Some("us"),
                Err(Denied::Invalid("it is meant for another audience")),
            ),
            (
                "nobody's",
                json!({"sub": "alice", "exp": 200}),
                Some("us"),
                Err(Denied::Invalid("it is meant for another audience")),
            ),
            (
                "no name",
                json!({"sub": "", "exp": 200}),
                None,
                Err(Denied::Invalid("its subject is empty or too long")),
            ),
            (
                "a long name",
                json!({"sub": long, "exp": 200}),
                None,
                Err(Denied::Invalid("its subject is empty or too long")),
            ),
        ] {
            assert_eq!(check(claims, audience), expected, "{name}");
        }
    }
}
