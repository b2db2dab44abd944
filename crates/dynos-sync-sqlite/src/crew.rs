//! [`Crew`]: the threads that work for a desk, and waiting until they have ended.

use dynos_sync_core::ReplicaError;
use futures_channel::oneshot;

use crate::{
    error::Result,
    sync::{Arc, Mutex, PoisonError, thread},
};

/// Threads that have a connection each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crew(Arc<Mutex<Roll>>);

#[derive(Debug, Default)]
struct Roll {
    at_work: usize,
    /// Who waits until nobody is at work. That this is dropped tells them.
    waiting: Vec<oneshot::Sender<()>>,
}

/// One who is at work, until dropped.
struct Member(Crew);

impl Crew {
    /// Starts a thread. What `work` owns is dropped before the thread counts as ended.
    pub(crate) fn start(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let failed = |error: std::io::Error| ReplicaError::Storage {
            message: "no thread could be started".to_owned(),
            source: Some(Box::new(error)),
        };
        let member = Member::new(self.clone());
        let working = move || {
            let _member = member;
            work();
        };
        thread::Builder::new().name(name.to_owned()).spawn(working).map(drop).map_err(failed)
    }

    /// Waits until all have ended.
    pub(crate) async fn ended(&self) {
        let (waiting, ended) = oneshot::channel();
        self.with(|roll| {
            if roll.at_work > 0 {
                roll.waiting.push(waiting);
            }
        });
        // Nothing is ever sent.
        let _ = ended.await;
    }

    fn with(&self, change: impl FnOnce(&mut Roll)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Member {
    fn new(crew: Crew) -> Self {
        crew.with(|roll| roll.at_work += 1);
        Self(crew)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.with(|roll| {
            roll.at_work -= 1;
            if roll.at_work == 0 {
                roll.waiting.clear();
            }
        });
    }
}
