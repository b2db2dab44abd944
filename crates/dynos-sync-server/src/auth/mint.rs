//! Tokens of one's own, for trying things out and for services that have no issuer.

use std::time::Duration;

use dynos_sync_core::Millis;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use super::keys::{KeyError, strong};
use crate::config::Secret;

/// Makes a token for `subject` that is valid from `now` on for `lifetime`, signed with the server's secret.
///
/// # Errors
/// [`KeyError::ShortSecret`] where a server would refuse the secret too.
pub fn mint(secret: &Secret, subject: &str, lifetime: Duration, now: Millis) -> Result<String, KeyError> {
    let key = EncodingKey::from_secret(strong(secret)?);
    let issued = now.div_euclid(1000);
    let expires = issued.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX));
    let claims = serde_json::json!({"sub": subject, "iat": issued, "exp": expires});
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}
