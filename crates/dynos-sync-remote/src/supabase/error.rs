//! What PostgREST says when it does not do what it is asked.

use std::time::Duration;

use dynos_sync_core::{RemoteError, wire::RejectCode};
use serde::Deserialize;

use crate::transport::{Answer, json};

/// The body of a failure, PostgREST's or the gateway's (which has no code).
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct ErrorBody {
    /// A SQLSTATE, or a code of PostgREST's own.
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    /// May quote values: not to be shown.
    pub(crate) details: Option<String>,
    pub(crate) hint: Option<String>,
}

/// What a failure means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The token is missing, wrong or expired.
    Auth(String),
    /// It may work later; this includes having asked too often.
    Transient { message: String, retry_after: Option<Duration> },
    /// The request's body is larger than somebody on the way takes.
    TooLarge,
    /// The database had no time to finish: less may be done in time.
    StatementTimeout,
    /// What was to be written, or one row of it, is refused. The session is fine.
    Entry { code: RejectCode, state: String, message: String },
    /// The database does not have it, or PostgREST does not know of it yet.
    Missing(Missing, String),
    /// A failure that the SQL core raises for a whole call: the last three digits of its code.
    Raised { status: u16, message: String, details: Option<String> },
    /// The call is refused, and will be again.
    Call { code: String, message: String },
}

/// The longest code that is shown, in characters. Those that there are have at most 8.
const LONGEST_CODE: usize = 40;

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Function,
    Table,
    Column,
}

/// Lets successes pass.
pub(crate) fn check(answer: &Answer) -> Result<(), Failure> {
    if answer.status.is_success() {
        return Ok(());
    }
    let body: ErrorBody = json::failure(&answer.body);
    let readable = |text: Option<String>| text.map(|text| answer.readable(&text));
    let shown = ErrorBody { message: readable(body.message), hint: readable(body.hint), ..body };
    Err(match classify(answer.status.as_u16(), shown, answer.retry_after()) {
        // The one code that is shown and was compared with nothing. Cleaned before, it might pass for a known one.
        Failure::Call { code, message } => {
            Failure::Call { code: answer.readable(&code).chars().take(LONGEST_CODE).collect(), message }
        }
        failure => failure,
    })
}

/// By code where there is one, since statuses differ between versions; else by status.
fn classify(status: u16, body: ErrorBody, retry_after: Option<Duration>) -> Failure {
    // A write to a table that PostgREST has not heard of, up to its version 12.
    if status == 404 && body == ErrorBody::default() {
        return Failure::Missing(Missing::Table, "PostgREST knows no such table (yet)".to_owned());
    }
    let message = said(status, &body);
    let transient = |message| Failure::Transient { message, retry_after };
    // PostgREST's words, or want of them, for a connection to the database that broke under the request.
    if body.code.as_deref() == Some("") {
        return transient("the connection to the database was lost".to_owned());
    }
    let state = body.code.unwrap_or_default();
    if let Some(status) = state.strip_prefix("PT").and_then(|status| status.parse().ok()) {
        return Failure::Raised { status, message, details: body.details };
    }
    match (status, state.as_str()) {
        // Not signed in at all, PostgREST says so with the same code as row-level security.
        (401, "42501") => Failure::Auth(message),
        (_, "PGRST300" | "PGRST301" | "PGRST302" | "PGRST303") => Failure::Auth(message),
        (_, "PGRST000" | "PGRST001" | "PGRST002" | "PGRST003") => transient(message),
        (_, "PGRST202" | "42883") => Failure::Missing(Missing::Function, message),
        (_, "PGRST205" | "42P01") => Failure::Missing(Missing::Table, message),
        (_, "PGRST204" | "42703") => Failure::Missing(Missing::Column, message),
        (_, "57014") => Failure::StatementTimeout,
        (401, "") if message.contains("API key") => Failure::Call {
            code: "api_key".to_owned(),
            message: format!("{message}: check the project's anon key"),
        },
        (401, _) => Failure::Auth(message),
        (413, _) => Failure::TooLarge,
        (408 | 425 | 429 | 502 | 503 | 504, _) => transient(message),
        (_, state) if is_sqlstate(state) => sqlstate(state, message, retry_after),
        (500..=599, _) => transient(message),
        (_, "") => Failure::Call { code: format!("http_{status}"), message },
        (_, code) => Failure::Call { code: code.to_owned(), message },
    }
}

fn said(status: u16, body: &ErrorBody) -> String {
    match (body.message.as_deref().filter(|message| !message.is_empty()), &body.hint) {
        (Some(message), Some(hint)) => format!("{message} ({hint})"),
        (Some(message), None) => message.to_owned(),
        (None, _) => format!("HTTP status {status}"),
    }
}

fn is_sqlstate(code: &str) -> bool {
    code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

/// The same sense as the SQL core's `dynos.refusal`.
fn sqlstate(state: &str, message: String, retry_after: Option<Duration>) -> Failure {
    let code = match (&state[..2], state) {
        // Lost connections, failed serialization, a lack of resources, somebody else's lock, shutting down, a standby,
        // a fault of the database.
        ("08" | "40" | "53" | "55" | "57" | "58" | "F0" | "XX", _) | (_, "25006") => {
            return Failure::Transient { message: format!("the database says {state}"), retry_after };
        }
        ("0L" | "0P" | "25" | "28" | "3D" | "3F", _) | (_, "42601") => {
            return Failure::Call { code: state.to_owned(), message };
        }
        (_, "42501") => RejectCode::Forbidden,
        ("54", _) => RejectCode::TooLarge,
        ("21" | "22" | "42", _) => RejectCode::Invalid,
        _ => RejectCode::Constraint,
    };
    Failure::Entry { code, state: state.to_owned(), message }
}

impl Failure {
    /// The refusal that it is of the one row that was to be written, if it is one.
    pub(crate) fn rejection(&self) -> Option<(RejectCode, &str)> {
        match self {
            Self::Entry { code, message, .. } => Some((*code, message)),
            Self::TooLarge => Some((RejectCode::TooLarge, "the record is larger than the server takes")),
            Self::Missing(Missing::Table, message) => Some((RejectCode::UnknownTable, message)),
            Self::Missing(Missing::Column, message) => Some((RejectCode::UnknownColumn, message)),
            _ => None,
        }
    }

    /// The column that is missing, where PostgREST names it: "Could not find the 'size' column of 'tasks' in the schema cache".
    pub(crate) fn unknown_column(&self) -> Option<&str> {
        let Self::Missing(Missing::Column, message) = self else { return None };
        let (column, _) = message.strip_prefix("Could not find the '")?.rsplit_once("' column of ")?;
        Some(column)
    }
}

/// As the failure of a whole call.
impl From<Failure> for RemoteError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Auth(message) => Self::AuthExpired { message },
            Failure::Transient { message, retry_after } => Self::Transient { message, retry_after },
            Failure::TooLarge => Self::TooLarge,
            Failure::StatementTimeout => Self::transient("the database's statement timeout has passed"),
            // The message may quote values.
            Failure::Entry { code, state, .. } => Self::Refused {
                code: code.as_str().to_owned(),
                message: format!("the database says {state}"),
            },
            Failure::Missing(_, message) => Self::Refused { code: "not_found".to_owned(), message },
            Failure::Raised { status, message, .. } => Self::Refused { code: format!("PT{status}"), message },
            Failure::Call { code, message } => Self::Refused { code, message },
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{StatusCode, header::HeaderMap};

    use super::*;
    use crate::token::Secret;

    fn of(status: u16, code: &str) -> Failure {
        let body = ErrorBody {
            code: (!code.is_empty()).then(|| code.to_owned()),
            message: Some("told so".to_owned()),
            ..ErrorBody::default()
        };
        classify(status, body, Some(Duration::from_secs(7)))
    }

    #[test]
    fn codes_of_old_and_new_versions_mean_the_same() {
        let told = || "told so".to_owned();
        for (status, code, expected) in [
            (401, "PGRST301", Failure::Auth(told())),
            (401, "PGRST303", Failure::Auth(told())),
            (401, "PGRST302", Failure::Auth(told())),
            (401, "42501", Failure::Auth(told())),
            (401, "", Failure::Auth(told())),
            (404, "PGRST202", Failure::Missing(Missing::Function, told())),
            (404, "42883", Failure::Missing(Missing::Function, told())),
            (404, "PGRST205", Failure::Missing(Missing::Table, told())),
            (404, "42P01", Failure::Missing(Missing::Table, told())),
            (400, "PGRST204", Failure::Missing(Missing::Column, told())),
            (400, "42703", Failure::Missing(Missing::Column, told())),
            (500, "57014", Failure::StatementTimeout),
            (413, "", Failure::TooLarge),
            (400, "PGRST102", Failure::Call { code: "PGRST102".to_owned(), message: told() }),
            (404, "", Failure::Call { code: "http_404".to_owned(), message: told() }),
            (410, "PT410", Failure::Raised { status: 410, message: told(), details: None }),
        ] {
            assert_eq!(of(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn what_concerns_one_entry_is_told_from_the_rest_by_its_code() {
        for (status, state, expected) in [
            (400, "23502", RejectCode::Constraint),
            (409, "23505", RejectCode::Constraint),
            (409, "23503", RejectCode::Constraint),
            (400, "23514", RejectCode::Constraint),
            (400, "23P01", RejectCode::Constraint),
            (400, "P0001", RejectCode::Constraint),
            (403, "42501", RejectCode::Forbidden),
            (400, "22P02", RejectCode::Invalid),
            (400, "22003", RejectCode::Invalid),
            (400, "42804", RejectCode::Invalid),
            (400, "21000", RejectCode::Invalid),
            (500, "21000", RejectCode::Invalid),
            (500, "54000", RejectCode::TooLarge),
        ] {
            assert_eq!(of(status, state).rejection(), Some((expected, "told so")), "{status} {state}");
        }
        assert_eq!(of(404, "42P01").rejection(), Some((RejectCode::UnknownTable, "told so")));
        assert_eq!(of(400, "PGRST204").rejection(), Some((RejectCode::UnknownColumn, "told so")));
        assert_eq!(of(404, "PGRST202").rejection(), None);
        let named = |message: &str| Failure::Missing(Missing::Column, message.to_owned());
        for (message, column) in [
            ("Could not find the 'size' column of 'tasks' in the schema cache", Some("size")),
            ("Could not find the 'it's' column of 'tasks' in the schema cache", Some("it's")),
            ("column tasks.size does not exist", None),
            ("Could not find the 'size", None),
        ] {
            assert_eq!(named(message).unknown_column(), column);
        }
    }

    #[test]
    fn an_answer_of_nothing_is_an_unknown_table() {
        let failure = classify(404, ErrorBody::default(), None);
        assert_eq!(failure.rejection().map(|(code, _)| code), Some(RejectCode::UnknownTable));
    }

    #[test]
    fn what_may_work_later_says_when() {
        for (status, code) in [
            (503, "PGRST000"),
            (503, "PGRST001"),
            (503, "PGRST002"),
            (504, "PGRST003"),
            (502, ""),
            (504, ""),
            (429, ""),
            (500, ""),
            (503, "53300"),
            (500, "40001"),
            (500, "40P01"),
            (500, "55P03"),
            (503, "57P01"),
            (500, "XX000"),
            (405, "25006"),
        ] {
            let error = RemoteError::from(of(status, code));
            assert!(error.is_transient(), "{status} {code}: {error}");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{status} {code}");
        }
    }

    #[test]
    fn a_database_that_went_away_is_waited_for() {
        let body =
            ErrorBody { code: Some(String::new()), message: Some(String::new()), ..ErrorBody::default() };
        assert!(RemoteError::from(classify(400, body, None)).is_transient());
    }

    #[test]
    fn a_wrong_key_is_no_expired_session() {
        let body = ErrorBody { message: Some("Invalid API key".to_owned()), ..ErrorBody::default() };
        let error = RemoteError::from(classify(401, body, None));
        assert!(!error.is_auth() && error.to_string().contains("anon key"), "{error}");
    }

    #[test]
    fn a_code_is_fit_for_a_log_line_and_shows_no_token() {
        let body = r#"{"code": "PT410\u0007 canary-token", "message": "no"}"#;
        let token = Secret::new("canary-token");
        let answer =
            Answer::received(StatusCode::GONE, HeaderMap::new(), body.as_bytes(), token, 1000).unwrap();
        let error = RemoteError::from(check(&answer).unwrap_err()).to_string();
        assert!(error.contains("PT410 [secret]"), "{error:?}");
    }

    #[test]
    fn values_are_not_quoted_where_the_whole_call_failed() {
        let body = ErrorBody {
            code: Some("22P02".to_owned()),
            message: Some("invalid input syntax for type integer: \"canary\"".to_owned()),
            details: Some("canary".to_owned()),
            hint: None,
        };
        let error = RemoteError::from(classify(400, body, None)).to_string();
        assert!(error.contains("22P02") && !error.contains("canary"), "{error}");
    }
}
