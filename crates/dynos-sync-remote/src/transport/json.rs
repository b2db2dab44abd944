//! JSON from outside.

use dynos_sync_core::RemoteError;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Reads JSON. The parser refuses nesting beyond 128 levels, so the stack is bounded.
///
/// # Errors
/// `Protocol`, saying where and not what: the parser's own message would quote records.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, RemoteError> {
    serde_json::from_slice(body).map_err(|error| {
        let problem = match error.classify() {
            Category::Data => "the JSON is not what was expected",
            Category::Eof => "the JSON ends early",
            Category::Syntax | Category::Io => "it is not well-formed JSON",
        };
        RemoteError::Protocol(format!("{problem} (line {}, column {})", error.line(), error.column()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_told_and_the_content_is_not() {
        for body in [r#"{"a": "canary"}"#, r#""canary""#, r#"["canary"#, r#"[canary"#, ""] {
            let error = decode::<Vec<u64>>(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("line ") && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn nesting_does_not_exhaust_the_stack() {
        assert!(decode::<serde_json::Value>("[".repeat(1_000_000).as_bytes()).is_err());
    }
}
