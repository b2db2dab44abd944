//! Following what the status only counts: the conflict journal, and the dead letters.

use std::sync::{Arc, Weak};

use dynos_sync_core::{
    Replica, ReplicaError,
    replica::{DeadLetter, Journaled, State},
};
use futures_util::stream;

use crate::{engine::SyncEngine, error::SyncError, query::LiveQuery, status::Signals, worker::Shared};

impl SyncEngine {
    /// Follows the conflict journal: all of it at once, newest first, and again whenever a conflict was decided, undone or discarded. An error
    /// is an item like any other. It ends with the engine, and does not keep it alive.
    pub fn watch_conflicts(&self) -> LiveQuery<Journaled> {
        self.follow()
    }

    /// Follows the dead letters: all of them at once, oldest first, and again whenever an edit was given up, or a letter retried or discarded.
    /// An error is an item like any other. It ends with the engine, and does not keep it alive.
    pub fn watch_dead_letters(&self) -> LiveQuery<DeadLetter> {
        self.follow()
    }

    fn follow<T: Listed>(&self) -> LiveQuery<T> {
        let list =
            Followed { engine: Arc::downgrade(self.shared()), signals: Signals::new(self), last: None };
        LiveQuery::new(stream::unfold(list, async |mut list| Some((list.next().await?, list))))
    }
}

/// What is kept in a list by numbers that are never given again.
trait Listed: Send + 'static {
    fn number(&self) -> i64;

    /// How many there are.
    fn count(state: &State) -> u64;

    fn all(replica: &dyn Replica) -> impl Future<Output = Result<Vec<Self>, ReplicaError>> + Send
    where
        Self: Sized;

    /// Whether there is one with a higher number.
    fn has_later(
        replica: &dyn Replica,
        number: i64,
    ) -> impl Future<Output = Result<bool, ReplicaError>> + Send;
}

impl Listed for Journaled {
    fn number(&self) -> i64 {
        self.id
    }

    fn count(state: &State) -> u64 {
        state.conflicts
    }

    async fn all(replica: &dyn Replica) -> Result<Vec<Self>, ReplicaError> {
        replica.conflicts(i64::MAX, usize::MAX >> 1).await
    }

    async fn has_later(replica: &dyn Replica, number: i64) -> Result<bool, ReplicaError> {
        let newest = replica.conflicts(i64::MAX, 1).await?;
        Ok(newest.first().is_some_and(|entry| entry.id > number))
    }
}

impl Listed for DeadLetter {
    fn number(&self) -> i64 {
        self.id
    }

    fn count(state: &State) -> u64 {
        state.dead_letters
    }

    async fn all(replica: &dyn Replica) -> Result<Vec<Self>, ReplicaError> {
        replica.dead_letters(0, usize::MAX >> 1).await
    }

    async fn has_later(replica: &dyn Replica, number: i64) -> Result<bool, ReplicaError> {
        Ok(!replica.dead_letters(number, 1).await?.is_empty())
    }
}

/// A list as it is followed.
struct Followed {
    engine: Weak<Shared>,
    signals: Signals,
    /// The numbers of what was in it.
    last: Option<Vec<i64>>,
}

impl Followed {
    async fn next<T: Listed>(&mut self) -> Option<Result<Vec<T>, SyncError>> {
        loop {
            self.signals.next().await?;
            match self.read().await {
                Err(SyncError::Closed) => return None,
                Err(SyncError::SessionEnded) if !self.engine.upgrade()?.driver.session_is_over() => {}
                Err(error) => return Some(Err(error)),
                Ok(Some(list)) => return Some(Ok(list)),
                Ok(None) => {}
            }
        }
    }

    /// The list, where it is another than it was. While there are as many and none is later, all are the same.
    async fn read<T: Listed>(&mut self) -> Result<Option<Vec<T>>, SyncError> {
        let engine = self.engine.upgrade().ok_or(SyncError::Closed)?;
        let driver = &engine.driver;
        let count = T::count(&driver.state().await?);
        if let Some(last) = &self.last
            && last.len() as u64 == count
            && !T::has_later(&*driver.replica, last.iter().copied().max().unwrap_or(0)).await?
        {
            return Ok(None);
        }
        let list = T::all(&*driver.replica).await?;
        let numbers: Vec<i64> = list.iter().map(T::number).collect();
        let is_other = self.last.as_ref() != Some(&numbers);
        self.last = Some(numbers);
        Ok(is_other.then_some(list))
    }
}
