//! Why a remote could not be built.

/// Why a remote could not be built. Nothing was sent to anybody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The server's URL cannot be used. The URL itself is not shown: it may hold a password.
    #[error("the server's URL {problem}")]
    Url {
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The URL is plain `http` and its host is another machine: anybody on the way could read the token.
    #[error(
        "the token would travel to {host} unencrypted: use an https URL, or call allow_plain_http(true) where the \
         network in between is trusted"
    )]
    PlainHttp {
        /// The URL's host.
        host: String,
    },
    /// Neither a token nor a token provider was given.
    #[error("there is no token: call token(…) or token_provider(…)")]
    NoToken,
    /// The root certificate cannot be used.
    #[error("the root certificate {problem}")]
    Certificate {
        /// What is wrong with it.
        problem: String,
    },
    /// Another setting is out of its range.
    #[error("{setting} {problem}")]
    Setting {
        /// The builder's method.
        setting: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// The TLS or HTTP client could not be set up, for example because the system has no root certificates.
    #[error("the HTTP client cannot be set up: {problem}")]
    Client {
        /// What happened.
        problem: String,
    },
}
