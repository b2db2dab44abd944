//! [`Desk`]: where work for a connection is handed in.

use std::fmt;

use dynos_sync_core::ReplicaError;

use crate::{
    error::Result,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
};

/// Who does jobs, one at a time.
pub(crate) trait Clerk {
    type Job;

    fn work(&mut self, job: Self::Job);
}

/// Where work is handed in, until it is closed.
pub(crate) struct Desk<C: Clerk>(Mutex<Option<Place<C>>>);

enum Place<C: Clerk> {
    /// The clerk sits on a thread of its own.
    Elsewhere(Sender<C::Job>),
    /// Whoever hands something in waits until it is done.
    Here(C),
}

impl<C: Clerk> Desk<C> {
    /// A desk whose jobs arrive at the receiver.
    pub(crate) fn elsewhere() -> (Self, Receiver<C::Job>) {
        let (sender, receiver) = mpsc::channel();
        (Self(Mutex::new(Some(Place::Elsewhere(sender)))), receiver)
    }

    /// A desk that does its jobs itself.
    pub(crate) fn here(clerk: C) -> Self {
        Self(Mutex::new(Some(Place::Here(clerk))))
    }

    pub(crate) fn hand_in(&self, job: C::Job) -> Result<()> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(Place::Elsewhere(jobs)) => jobs.send(job).map_err(|_| ReplicaError::Closed),
            Some(Place::Here(clerk)) => {
                clerk.work(job);
                Ok(())
            }
            None => Err(ReplicaError::Closed),
        }
    }

    /// Takes in nothing more. Answers the way to the threads, which end when it is dropped, after what was handed in.
    pub(crate) fn close(&self) -> Option<Sender<C::Job>> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take()? {
            Place::Elsewhere(jobs) => Some(jobs),
            Place::Here(_) => None,
        }
    }
}

impl<C: Clerk> fmt::Debug for Desk<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}
