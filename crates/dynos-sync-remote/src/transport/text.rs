//! Foreign text in our messages.

use crate::token::Secret;

/// The longest foreign text in a message, in characters.
const MAX_CHARS: usize = 500;

/// Text from outside, made fit for a log line: control characters and secrets removed, cut to 500 characters.
pub(crate) fn readable(text: &str, secrets: &[&Secret]) -> String {
    // In this order: neither a control character in a secret nor the cut may hide part of it from the search.
    cut(&secrets.iter().fold(printable(text), |text, secret| secret.scrub(&text)))
}

/// As [`readable`], where no secret can be part of it.
pub(crate) fn public(text: &str) -> String {
    cut(&printable(text))
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_excess_are_removed() {
        assert_eq!(public("a\r\n\u{1b}[31mb\u{0}é"), "a[31mbé");
        assert_eq!(public(&"é".repeat(9999)).chars().count(), 500);
    }

    #[test]
    fn the_token_cannot_be_hidden() {
        let token = Secret::new("canary-token");
        assert_eq!(readable("bad can\u{7}ary-tok\nen!", &[&token]), "bad [secret]!");
        assert!(!readable(&format!("{}canary-token", "x".repeat(495)), &[&token]).contains("canary"));
    }

    #[test]
    fn one_secret_does_not_hide_another() {
        let [token, password] = ["canary-token", "canary-password"].map(Secret::new);
        let text = format!("{}canary-token canary\u{7}-password", "x".repeat(480));
        let shown = readable(&text, &[&token, &password]);
        assert!(!shown.contains("canary"), "{shown}");
    }
}
