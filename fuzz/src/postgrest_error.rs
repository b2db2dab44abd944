//! What a Supabase project says when it does not do what it is asked: PostgREST, its gateway, GoTrue.
//!
//! An input is a status, headers (`name: value`) and, after an empty line, a body.

use dynos_sync_core::RemoteError;
use dynos_sync_remote::{SignInError, fuzzing::Answer};

/// What no message may show.
const TOKEN: &str = "canary-token";
const PASSWORD: &str = "canary-password";

/// The longest text of an answer that a message shows, twice (a message and a hint), and what is said around it.
const LONGEST: usize = 2 * 500 + 200;

/// The body of the target.
pub fn run(data: &[u8]) {
    let Some((status, headers, body)) = parse(data) else { return };
    let Some(answer) = Answer::new(status, &headers, body, TOKEN) else { return };
    match answer.postgrest() {
        Ok(()) => assert!((200..300).contains(&status), "{status} passes for a success"),
        Err((plain, managed, row)) => {
            assert!(!(200..300).contains(&status), "{status} passes for a failure");
            row.iter().for_each(|message| is_fit(message, &[TOKEN]));
            // Local data hangs on these two: only the functions of the SQL core can say so.
            let grave = |error: &RemoteError| {
                matches!(error, RemoteError::ReplicaForked | RemoteError::CursorExpired(_))
            };
            assert!(!grave(&plain), "{plain:?}");
            assert!(!grave(&managed) || names(body, "PT"), "{managed:?}");
            [plain, managed].iter().for_each(|error| judge(error, status, body));
        }
    }
    if !(200..300).contains(&status) {
        sign_in(&answer.sign_in(PASSWORD), status);
    }
}

fn judge(error: &RemoteError, status: u16, body: &[u8]) {
    is_fit(&error.to_string(), &[TOKEN]);
    if let RemoteError::Refused { code, message } = error {
        is_fit(code, &[TOKEN]);
        is_fit(message, &[TOKEN]);
    }
    // Only a word about the token ends a session.
    if error.is_auth() {
        assert!(status == 401 || names(body, "PGRST30") || names(body, "PT"), "{status}: {error:?}");
    }
    // An overloaded server is waited for, whoever answers in its place, unless the database says more.
    if status == 429 && !names(body, "code") {
        assert!(error.is_transient(), "{error:?}");
    }
    assert!(error.retry_after().is_none_or(|pause| pause.as_secs() <= 3600), "{error:?}");
}

fn sign_in(error: &SignInError, status: u16) {
    is_fit(&error.to_string(), &[TOKEN, PASSWORD]);
    if status >= 500 || status == 429 {
        assert!(matches!(error, SignInError::Unavailable(_)) || status >= 600, "{status}: {error:?}");
    }
}

/// A message fits on a line and shows no secret.
fn is_fit(message: &str, secrets: &[&str]) {
    assert!(!message.chars().any(char::is_control), "{message:?}");
    assert!(message.chars().count() <= LONGEST, "{} characters", message.chars().count());
    assert!(!secrets.iter().any(|secret| message.contains(secret)), "{message:?}");
}

/// Whether a body may hold a word, written in any way. One that is no text in places can be read where these are not used:
/// here it cannot be judged.
fn names(body: &[u8], word: &str) -> bool {
    let value: Result<serde_json::Value, _> = serde_json::from_slice(body);
    value.map_or(true, |value| value.to_string().contains(word))
}

type Parts<'a> = (u16, Vec<(&'a [u8], &'a [u8])>, &'a [u8]);

fn parse(data: &[u8]) -> Option<Parts<'_>> {
    let end = data.windows(2).position(|pair| pair == b"\n\n")?;
    let mut lines = data[..end].split(|byte| *byte == b'\n');
    let status = std::str::from_utf8(lines.next()?).ok()?.parse().ok()?;
    let header = |line: &'_ [u8]| line.iter().position(|byte| *byte == b':');
    let headers =
        lines.filter_map(|line| header(line).map(|colon| (&line[..colon], line[colon + 1..].trim_ascii())));
    Some((status, headers.collect(), &data[end + 2..]))
}
