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

/// What the body of a failure says, nothing where it is no JSON object: a proxy's page, say. A list is none either, though
/// serde would take its items for the fields.
pub(crate) fn failure<T: DeserializeOwned + Default>(body: &[u8]) -> T {
    if !body.trim_ascii_start().starts_with(b"{") {
        return T::default();
    }
    decode(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_says_why_a_call_failed() {
        #[derive(Debug, Default, PartialEq, serde::Deserialize)]
        struct Said {
            code: String,
        }
        let said = |body: &str| failure::<Said>(body.as_bytes()).code;
        assert_eq!(said(" {\"code\": \"PGRST202\"}"), "PGRST202");
        assert_eq!(said("[\"PGRST202\"]"), "");
        assert_eq!(said("<html>"), "");
    }

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
