//! Stores joined into a replica, and a simple backend lifted into a remote.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod crash;
mod faulty;
mod remote;

mod conformance {
    use std::sync::Arc;

    use dynos_sync_core::{
        Replica,
        conformance::replica::Fixture,
        replica_conformance,
        split::{MemoryLocalStore, MemoryQueueStore, MemoryTimestampStore, SplitReplica},
    };

    #[derive(Default)]
    struct Stores(MemoryLocalStore, MemoryQueueStore, MemoryTimestampStore);

    #[async_trait::async_trait]
    impl Fixture for Stores {
        async fn open(&self) -> Arc<dyn Replica> {
            let Self(local, queue, timestamps) = self;
            let opened = SplitReplica::open(local.clone(), queue.clone(), timestamps.clone(), [7; 16]).await;
            Arc::new(opened.unwrap())
        }
    }

    replica_conformance!(Stores::default());
}
