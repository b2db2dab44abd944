//! Keys, each with its one algorithm.

use std::{fmt, path::Path, sync::Arc};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;

use crate::config::Secret;

/// Why no token can be checked with what was configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Such a secret can be guessed.
    #[error("the token secret has {bytes} bytes, at least {min} are needed (`openssl rand -hex 32` makes one)", min = Secret::MIN_BYTES)]
    ShortSecret {
        /// How long it is.
        bytes: usize,
    },
    /// The key set cannot be read.
    #[error("the key set cannot be read")]
    Unreadable(#[from] std::io::Error),
    /// It is no key set.
    #[error("not a JSON Web Key Set")]
    Malformed(#[from] serde_json::Error),
    /// There is no key in it that could be used.
    #[error("the key set has no RS256, ES256 or EdDSA key for signatures")]
    Empty,
    /// Keys from there could be anybody's.
    #[error("the key set's address must be https, or http on this machine: {0}")]
    Address(String),
    /// It could not be fetched.
    #[error("the key set cannot be fetched")]
    Fetch(#[from] reqwest::Error),
    /// The token cannot be signed.
    #[error("the token cannot be signed")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// A key for checking signatures.
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// A set of keys.
#[derive(Debug)]
pub(super) struct Keys(Vec<Arc<Key>>);

impl Keys {
    /// The one key that a shared secret is. It goes by any id.
    pub(super) fn secret(secret: &Secret) -> Result<Self, KeyError> {
        let decoding = DecodingKey::from_secret(strong(secret)?);
        Ok(Self(vec![Arc::new(Key { id: None, algorithm: Algorithm::HS256, decoding })]))
    }

    pub(super) fn file(path: &Path) -> Result<Self, KeyError> {
        Self::parse(&std::fs::read(path)?)
    }

    /// Reads a key set. Keys that are not of use here are passed over, so that an issuer may add others.
    pub(super) fn parse(json: &[u8]) -> Result<Self, KeyError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let Set { keys } = serde_json::from_slice(json)?;
        let usable = |key| serde_json::from_value::<Jwk>(key).ok().and_then(|jwk| usable(&jwk)).map(Arc::new);
        let keys: Vec<_> = keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Self(keys)) }
    }

    /// The key that a token names. One that names none can only mean the only one.
    pub(super) fn find(&self, id: Option<&str>) -> Option<Arc<Key>> {
        let only = if let [only] = self.0.as_slice() { Some(only) } else { None };
        match id {
            None => only.cloned(),
            Some(_) => {
                let nameless = only.filter(|only| only.id.is_none());
                self.0.iter().find(|key| key.id.as_deref() == id).or(nameless).cloned()
            }
        }
    }
}

pub(super) fn strong(secret: &Secret) -> Result<&[u8], KeyError> {
    match secret.as_bytes() {
        bytes if bytes.len() < Secret::MIN_BYTES => Err(KeyError::ShortSecret { bytes: bytes.len() }),
        bytes => Ok(bytes),
    }
}

fn usable(jwk: &Jwk) -> Option<Key> {
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(curve) if curve.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        // A secret in a public set is no secret.
        _ => return None,
    };
    let agrees = jwk.common.key_algorithm.as_ref().is_none_or(|stated| *stated == named);
    let decoding = DecodingKey::from_jwk(jwk).ok().filter(|_| signs && agrees)?;
    Some(Key { id: jwk.common.key_id.clone(), algorithm, decoding })
}
