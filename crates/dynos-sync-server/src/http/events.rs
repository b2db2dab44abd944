//! Live hints, as server-sent events.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::State as Extract,
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use dynos_sync_core::{TableName, wire::Hint};
use futures_util::stream::{self, Stream};
use tokio::{
    sync::{broadcast, broadcast::error::RecvError, watch},
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{ApiError, Known, State};
use crate::{
    metrics::Listening,
    store::{Caller, Moved, Scope},
};

/// A comment this often keeps the connection open, and shows a client that it is.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The shortest pause between two hints. A change that comes now and then is told at once.
const PACE: Duration = Duration::from_millis(5);

/// The longest. Where changes come one after the other, they are gathered: each hint makes a device ask.
const SLOWEST_PACE: Duration = Duration::from_millis(100);

pub(super) async fn events(
    Extract(state): Extract<State>,
    known: Known,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let Some(slot) = state.slots.take(&known.caller, state.limits.events_per_user) else {
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many event streams for one user"));
    };
    let listener = Listener {
        user: Scope::User(known.caller.subject),
        moves: state.store.moves(),
        closing: state.closing.clone(),
        expiry: Box::pin(sleep(known.left)),
        next: Instant::now(),
        pace: PACE,
        _slot: slot,
        _listening: state.metrics.listening(),
    };
    let hints = stream::unfold(listener, |mut listener| async {
        let hint = listener.hint().await?;
        Some((Event::default().json_data(hint).map_err(|_| ()), listener))
    });
    let hints = futures_util::StreamExt::filter_map(hints, |event| async { event.ok().map(Ok) });
    Ok(Sse::new(hints).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive")))
}

struct Listener {
    user: Scope,
    moves: broadcast::Receiver<Moved>,
    closing: watch::Receiver<bool>,
    expiry: Pin<Box<Sleep>>,
    next: Instant,
    /// The pause before that.
    pace: Duration,
    _slot: Slot,
    _listening: Listening,
}

impl Listener {
    /// The next hint. `None` when the token expires or the server shuts down.
    async fn hint(&mut self) -> Option<Hint> {
        let Self { user, moves, closing, expiry, next, pace, .. } = self;
        let hint = async {
            sleep_until(*next).await;
            *pace = pace_after(*pace, !moves.is_empty());
            gather(user, moves).await
        };
        let hint = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => None,
            () = expiry.as_mut() => None,
            hint = hint => hint,
        };
        self.next = Instant::now() + self.pace;
        hint
    }
}

/// The next pause: longer where a change had to wait for the end of this one.
fn pace_after(pace: Duration, waited: bool) -> Duration {
    if waited { (pace * 2).min(SLOWEST_PACE) } else { (pace / 2).max(PACE) }
}

/// Waits for a change that the user may see, and takes along what else has happened since.
async fn gather(user: &Scope, moves: &mut broadcast::Receiver<Moved>) -> Option<Hint> {
    let mut tables: BTreeSet<TableName> = BTreeSet::new();
    let seen = |scope: &Scope| *scope == Scope::Shared || scope == user;
    while tables.is_empty() {
        match moves.recv().await {
            Ok(Moved::Table { scope, table }) if seen(&scope) => drop(tables.insert(table)),
            Ok(Moved::Table { .. }) => {}
            Ok(Moved::Anything) | Err(RecvError::Lagged(_)) => return Some(Hint { tables: Vec::new() }),
            Err(RecvError::Closed) => return None,
        }
    }
    while let Ok(moved) = moves.try_recv() {
        match moved {
            Moved::Table { scope, table } if seen(&scope) => drop(tables.insert(table)),
            Moved::Table { .. } => {}
            Moved::Anything => return Some(Hint { tables: Vec::new() }),
        }
    }
    Some(Hint { tables: tables.into_iter().collect() })
}

/// How many streams each user holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots(Arc<Mutex<HashMap<String, usize>>>);

/// One stream's place. It is given back on drop, however the stream ended.
struct Slot {
    slots: Slots,
    subject: String,
}

impl Slots {
    fn take(&self, caller: &Caller, most: usize) -> Option<Slot> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(caller.subject.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Slot { slots: self.clone(), subject: caller.subject.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.subject) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_now_and_then_is_told_at_once_and_a_flood_is_gathered() {
        let after = |pace, waits: &[bool]| waits.iter().fold(pace, |pace, waited| pace_after(pace, *waited));
        assert_eq!(after(PACE, &[false; 3]), PACE);
        assert_eq!(after(PACE, &[true; 10]), SLOWEST_PACE);
        assert_eq!(after(SLOWEST_PACE, &[false; 10]), PACE);
        assert!(after(PACE, &[true, true, false]) > PACE);
    }
}
