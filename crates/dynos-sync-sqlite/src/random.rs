//! [`Random`]: where new identities come from.

use std::{fmt, sync::Arc};

use dynos_sync_core::{ReplicaError, ReplicaId};

use crate::error::Result;

/// A source of random bytes.
#[derive(Clone, Default)]
pub struct Random(Option<Arc<dyn Fn() -> [u8; 16] + Send + Sync>>);

impl Random {
    /// A source of one's own. Two replicas that draw the same bytes are one to a server: this is for simulations.
    pub fn new(draw: impl Fn() -> [u8; 16] + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(draw)))
    }

    /// A new identity.
    pub(crate) fn replica_id(&self) -> Result<ReplicaId> {
        self.bytes().map(ReplicaId::from_random)
    }

    pub(crate) fn bytes(&self) -> Result<[u8; 16]> {
        let mut bytes = [0; 16];
        match &self.0 {
            Some(draw) => bytes = draw(),
            None => getrandom::fill(&mut bytes).map_err(|error| ReplicaError::Storage {
                message: format!("no random bytes: {error}"),
                source: None,
            })?,
        }
        Ok(bytes)
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Random(own)" } else { "Random(system)" })
    }
}
