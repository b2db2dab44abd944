//! Who calls: bearer tokens, checked.
//!
//! A key is used with one algorithm, its own. What the token's header names only has to agree: a header that
//! could choose would let a public key be used as a secret, or ask for no signature at all.

mod claims;
mod keys;
mod mint;
mod remote_keys;

use std::sync::Arc;

use jsonwebtoken::{Header, Validation};

use self::{
    claims::Claims,
    keys::{Key, Keys},
    remote_keys::RemoteKeys,
};
use crate::config::{Auth, Config, Now};

pub use self::{keys::KeyError, mint::mint};

/// The longest token that is looked at, in bytes.
const TOKEN_BYTES: usize = 16 * 1024;

/// Whom a token names, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The token's `sub`.
    pub(crate) subject: String,
    /// When the token ends, in milliseconds since 1970, the leeway included.
    pub(crate) until: i64,
}

/// Why a token was not accepted. It says nothing that would help to forge one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Denied {
    /// There is none.
    #[error("a bearer token is needed")]
    Missing,
    /// It is not a token of ours.
    #[error("the token is not valid: {0}")]
    Invalid(&'static str),
    /// It was.
    #[error("the token has expired")]
    Expired,
    /// The keys cannot be had now.
    #[error("the keys for checking tokens cannot be had now")]
    NoKeys,
}

/// Checks tokens.
#[derive(Clone, Debug)]
pub(crate) struct Verifier {
    keys: Source,
    audience: Option<String>,
    leeway: i64,
    now: Now,
}

#[derive(Clone, Debug)]
enum Source {
    Fixed(Arc<Keys>),
    Remote(Arc<RemoteKeys>),
}

impl Verifier {
    pub(crate) fn new(config: &Config) -> Result<Self, KeyError> {
        let keys = match &config.auth {
            Auth::Secret(secret) => Source::Fixed(Arc::new(Keys::secret(secret)?)),
            Auth::JwksFile(path) => Source::Fixed(Arc::new(Keys::file(path)?)),
            Auth::JwksUrl { url, refresh } => {
                Source::Remote(Arc::new(RemoteKeys::new(url, *refresh, config.now.clone())?))
            }
        };
        let leeway = i64::try_from(config.leeway.as_millis()).unwrap_or(i64::MAX);
        Ok(Self { keys, audience: config.audience.clone(), leeway, now: config.now.clone() })
    }

    /// Checks the value of an `Authorization` header.
    pub(crate) async fn check(&self, authorization: Option<&str>) -> Result<Identity, Denied> {
        let (scheme, token) = authorization.and_then(|value| value.split_once(' ')).ok_or(Denied::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Denied::Missing);
        }
        let token = token.trim();
        if token.len() > TOKEN_BYTES {
            return Err(Denied::Invalid("it is too long"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Denied::Invalid("not a signed JWT"))?;
        if header.crit.is_some() {
            return Err(Denied::Invalid("it has a critical header that is not known here"));
        }
        let claims = verify(token, &header, &*self.key(&header).await?)?;
        claims.check(self.now.millis(), self.leeway, self.audience.as_deref())
    }

    async fn key(&self, header: &Header) -> Result<Arc<Key>, Denied> {
        let unknown = Denied::Invalid("no key for it is known");
        match &self.keys {
            Source::Fixed(keys) => keys.find(header.kid.as_deref()).ok_or(unknown),
            Source::Remote(keys) => keys.find(header.kid.as_deref()).await?.ok_or(unknown),
        }
    }
}

fn verify(token: &str, header: &Header, key: &Key) -> Result<Claims, Denied> {
    if header.alg != key.algorithm {
        return Err(Denied::Invalid("its algorithm is not that of the key"));
    }
    // The claims are checked against the server's own clock afterwards, all of them.
    let mut validation = Validation::new(key.algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation);
    decoded.map(|data| data.claims).map_err(|error| match error.kind() {
        jsonwebtoken::errors::ErrorKind::Json(_) => {
            Denied::Invalid("its claims are incomplete or of the wrong type")
        }
        _ => Denied::Invalid("its signature is wrong"),
    })
}
