//! One token for many calls, and one refresh for all that were refused with it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dynos_sync_core::RemoteError;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use super::text;
use crate::token::{Secret, TokenError, TokenProvider};

type Outcome = Shared<BoxFuture<'static, Result<Option<Secret>, TokenError>>>;

/// Hands out tokens and has them refreshed, never twice at once and never twice for the same refusal: account
/// services with one-time refresh tokens end the session of a client that refreshes in parallel.
pub(super) struct Authenticator {
    provider: Arc<dyn TokenProvider>,
    /// The longest time that the provider may take.
    patience: Duration,
    last: Mutex<Option<Flight>>,
}

/// A refresh, under way or done.
struct Flight {
    number: u64,
    stale: Secret,
    outcome: Outcome,
}

/// A token, and the number of the last refresh that was done when it was handed out.
pub(super) struct Ticket {
    pub(super) secret: Secret,
    seen: u64,
}

impl Authenticator {
    pub(super) fn new(provider: Arc<dyn TokenProvider>, patience: Duration) -> Self {
        Self { provider, patience, last: Mutex::new(None) }
    }

    pub(super) async fn token(&self) -> Result<Ticket, RemoteError> {
        let seen = self.finished();
        let secret = self.provider.token().await.map_err(|error| failure(&error, text::public))?;
        Ok(Ticket { secret, seen })
    }

    /// A token in place of the one that was refused; `None` where there is no other.
    pub(super) async fn refresh(&self, refused: &Ticket) -> Result<Option<Secret>, RemoteError> {
        let fresh = self.join(refused).await;
        let fresh =
            fresh.map_err(|error| failure(&error, |text| text::readable(text, &[&refused.secret])))?;
        Ok(fresh.filter(|fresh| *fresh != refused.secret))
    }

    /// The refresh that ended since the ticket was handed out, or is under way; else a new one.
    fn join(&self, refused: &Ticket) -> Outcome {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match &*last {
            Some(flight) if flight.number > refused.seen && flight.stale == refused.secret => {
                return flight.outcome.clone();
            }
            Some(flight) => flight.number + 1,
            None => 1,
        };
        let outcome = self.take_off(refused.secret.clone());
        *last = Some(Flight { number, stale: refused.secret.clone(), outcome: outcome.clone() });
        outcome
    }

    /// Whoever awaits the outcome drives it: a caller that is dropped takes nothing down.
    fn take_off(&self, stale: Secret) -> Outcome {
        let (provider, patience) = (Arc::clone(&self.provider), self.patience);
        async move {
            tokio::time::timeout(patience, provider.refresh(&stale)).await.unwrap_or_else(|_| {
                Err(TokenError::Unavailable(format!("the refresh took longer than {patience:?}")))
            })
        }
        .boxed()
        .shared()
    }

    fn finished(&self) -> u64 {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map_or(0, |flight| flight.number - u64::from(flight.is_under_way()))
    }
}

impl Flight {
    fn is_under_way(&self) -> bool {
        self.outcome.peek().is_none()
    }
}

fn failure(error: &TokenError, readable: impl Fn(&str) -> String) -> RemoteError {
    match error {
        TokenError::Unavailable(message) => {
            RemoteError::transient(format!("no token: {}", readable(message)))
        }
        TokenError::SignedOut(message) => RemoteError::AuthExpired { message: readable(message) },
    }
}
