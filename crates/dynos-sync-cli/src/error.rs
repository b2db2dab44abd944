//! Why a command failed: a code for programs, a sentence and a hint for people, an exit code for shells.

use std::{io, path::Path, process::ExitCode};

use dynos_sync::{
    SyncError,
    core::{Invalid, RemoteError, ReplicaError},
    remote::BuildError,
};

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    message: String,
    hint: Option<String>,
}

/// What kind of failure it is. The words are part of the `--json` output, and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The output's reader has gone: there is nobody to tell.
    BrokenPipe,
    /// Anything that has no word of its own.
    Failed,
    /// A file or a table is not there.
    NotFound,
    /// The database syncs no table.
    NotTracked,
    /// A value or a table that cannot be used.
    Invalid,
    /// The file is no database, or is damaged.
    Damaged,
    /// Another program holds the database.
    Busy,
    /// The token would travel unencrypted.
    PlainHttp,
    /// The server refused the call, or does not speak the protocol.
    Server,
    /// The command line is at fault.
    Usage,
    /// The server cannot be reached; everything waits.
    Unreachable,
    /// Some changes are not synced.
    Incomplete,
    /// There is no valid token.
    SignInRequired,
    /// The database belongs to another server.
    WrongServer,
    /// The file exists already.
    Exists,
    /// Changes would be lost.
    Unsynced,
}

impl Code {
    /// The word for programs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::BrokenPipe => "broken_pipe",
            Self::Failed => "failed",
            Self::NotFound => "not_found",
            Self::NotTracked => "not_tracked",
            Self::Invalid => "invalid",
            Self::Damaged => "damaged",
            Self::Busy => "busy",
            Self::PlainHttp => "plain_http",
            Self::Server => "server",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::Incomplete => "incomplete",
            Self::SignInRequired => "sign_in_required",
            Self::WrongServer => "wrong_server",
            Self::Exists => "exists",
            Self::Unsynced => "unsynced",
        }
    }

    /// The exit code, as `dynos --help` lists them.
    pub(crate) fn exit(self) -> ExitCode {
        ExitCode::from(match self {
            Self::BrokenPipe => 0,
            Self::Failed
            | Self::NotFound
            | Self::NotTracked
            | Self::Invalid
            | Self::Damaged
            | Self::Busy
            | Self::PlainHttp
            | Self::Server => 1,
            Self::Usage => 2,
            Self::Unreachable | Self::Incomplete => 3,
            Self::SignInRequired => 4,
            Self::WrongServer | Self::Exists | Self::Unsynced => 5,
        })
    }
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// Says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A file that could not be read or written.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Failed };
        Self::new(code, format!("{}: {error}", path.display()))
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Nobody is signed in.
    pub(crate) fn signed_out(message: impl Into<String>) -> Self {
        Self::new(Code::SignInRequired, message).hint(
            "give a valid token with --token-file, --token or DYNOS_TOKEN; `dynos token` makes one on the server; to a Supabase \
             project, sign in with --email",
        )
    }

    fn with_invalid(invalid: Invalid) -> Self {
        let failure = Self::new(Code::Invalid, format!("invalid {}: {}", invalid.field, invalid.problem));
        if invalid.remedy.is_empty() { failure } else { failure.hint(invalid.remedy) }
    }
}

/// Writing the output failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Code::BrokenPipe, "the output was closed"),
            _ => Self::new(Code::Failed, error.to_string()),
        }
    }
}

impl From<SyncError> for Failure {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Invalid(invalid) => Self::with_invalid(invalid),
            SyncError::AuthExpired { message } => {
                Self::signed_out(format!("the token is not accepted: {message}"))
            }
            SyncError::Remote(error) => error.into(),
            SyncError::Replica(error) => error.into(),
            SyncError::WrongServer { bound, found } => wrong_server(&bound, &found),
            SyncError::Unsynced { changes } => {
                Self::new(Code::Unsynced, format!("{changes} changes are not synced"))
                    .hint("run dynos sync first")
            }
            SyncError::Contention(_) => {
                Self::new(Code::Unreachable, error.to_string()).hint("run dynos sync again")
            }
            other => Self::new(Code::Failed, other.to_string()),
        }
    }
}

/// The database belongs to another server than the one that answers.
pub(crate) fn wrong_server(bound: &str, found: &str) -> Failure {
    Failure::new(Code::WrongServer, format!("this database syncs with server {bound}, and this is server {found}"))
        .hint("check --remote; nothing was sent. A database follows one server: use another file for another server")
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        match &error {
            RemoteError::Transient { .. } => Self::new(Code::Unreachable, error.to_string())
                .hint("nothing is lost: changes wait in the database; check --remote, and sync again later"),
            RemoteError::AuthExpired { message } => {
                Self::signed_out(format!("the token is not accepted: {message}"))
            }
            RemoteError::Protocol(_) => Self::new(Code::Server, error.to_string())
                .hint("check that --remote is a dynos server of this version"),
            _ => Self::new(Code::Server, error.to_string()),
        }
    }
}

impl From<ReplicaError> for Failure {
    fn from(error: ReplicaError) -> Self {
        let message = error.to_string();
        match error {
            ReplicaError::Invalid(invalid) => Self::with_invalid(invalid),
            ReplicaError::Busy => Self::new(Code::Busy, "the database is in use by another program")
                .hint("end its open transaction, or try again"),
            ReplicaError::Corrupt(_) => {
                Self::new(Code::Damaged, message).hint("check that the file is an SQLite database")
            }
            ReplicaError::ReadOnly(_) => {
                Self::new(Code::Failed, message).hint("check the rights of the file and of its directory")
            }
            ReplicaError::NotFound(_) => Self::new(Code::NotFound, message),
            ReplicaError::Storage { source: Some(source), .. } => {
                Self::new(Code::Failed, format!("{message}: {source}"))
            }
            _ => Self::new(Code::Failed, message),
        }
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::with_invalid(invalid)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match &error {
            BuildError::PlainHttp { host } => {
                Self::new(Code::PlainHttp, format!("the token would travel to {host} unencrypted"))
                    .hint("use an https URL, or --allow-plain-http where the network in between is trusted")
            }
            BuildError::Url { .. } => Self::new(Code::Usage, error.to_string())
                .hint("for example --remote https://sync.example.com"),
            _ => Self::new(Code::Failed, error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::new(Code::Failed, error.to_string())
    }
}
