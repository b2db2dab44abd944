//! Stores joined into a replica, and a simple backend lifted into a remote.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod crash;
mod faulty;
mod remote;

mod conformance {
    use std::sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    };

    use dynos_sync_core::{
        Replica,
        conformance::replica::Fixture,
        replica_conformance,
        split::{MemoryLocalStore, MemoryQueueStore, MemoryTimestampStore, SplitReplica},
    };

    #[derive(Default)]
    struct Stores(MemoryLocalStore, MemoryQueueStore, MemoryTimestampStore, AtomicU8);

    #[async_trait::async_trait]
    impl Fixture for Stores {
        async fn open(&self) -> Arc<dyn Replica> {
            let Self(local, queue, timestamps, opened) = self;
            // As an application does: other random bytes each time.
            let seed = [opened.fetch_add(1, Ordering::Relaxed); 16];
            let replica = SplitReplica::open(local.clone(), queue.clone(), timestamps.clone(), seed).await;
            Arc::new(replica.unwrap())
        }
    }

    replica_conformance!(Stores::default());
}

mod slow {
    use std::{collections::BTreeMap, pin::pin, task::Poll};

    use dynos_sync_core::{
        Replica, ReplicaError,
        replica::TableOptions,
        split::{
            MemoryLocalStore, MemoryQueueStore, MemoryTimestampStore, QueueChange, QueueStore, SplitReplica,
        },
    };
    use futures_executor::block_on;
    use futures_util::{FutureExt, future::poll_fn};

    /// A store that has to be waited for.
    #[derive(Debug, Default)]
    struct Slow(MemoryQueueStore);

    #[async_trait::async_trait]
    impl QueueStore for Slow {
        async fn load(&self) -> Result<BTreeMap<String, String>, ReplicaError> {
            self.0.load().await
        }

        async fn apply(&self, changes: &[QueueChange]) -> Result<(), ReplicaError> {
            let mut asked = false;
            poll_fn(|context| match std::mem::replace(&mut asked, true) {
                true => Poll::Ready(()),
                false => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
            })
            .await;
            self.0.apply(changes).await
        }
    }

    #[test]
    fn a_call_that_nobody_polls_holds_no_other_up() {
        let stores = (MemoryLocalStore::default(), Slow::default(), MemoryTimestampStore::default());
        let replica = block_on(SplitReplica::open(stores.0, stores.1, stores.2, [1; 16])).unwrap();
        let options = |name: &str| TableOptions::new(name.parse().unwrap());
        let mut begun = pin!(replica.add_table(options("one")));
        assert!((&mut begun).now_or_never().is_none());
        assert!(block_on(replica.add_table(options("two"))).unwrap());
        assert_eq!(block_on(replica.state()).unwrap().tables.len(), 2);
        assert!(block_on(begun).unwrap());
    }
}

mod rows {
    use dynos_sync_core::{
        Edit, RecordKey, Replica,
        replica::{Batch, Op, TableOptions},
        split::{
            LocalStore, MemoryLocalStore, MemoryQueueStore, MemoryTimestampStore, SplitReplica,
            TimestampStore,
        },
    };
    use serde_json::json;

    use super::remote::now;

    #[test]
    fn a_zero_keeps_its_sign() {
        let local = MemoryLocalStore::default();
        let stores = (MemoryQueueStore::default(), MemoryTimestampStore::default());
        let replica = now(SplitReplica::open(local.clone(), stores.0, stores.1, [1; 16])).unwrap();
        now(replica.add_table(TableOptions::new("t".parse().unwrap()))).unwrap();
        let key = RecordKey::new("t", "x").unwrap();
        for zero in [0.0, -0.0] {
            let edit = Edit::Upsert(json!({"a": zero}).as_object().unwrap().clone());
            let ops = vec![Op::Write { key: key.clone(), edit, at: 1 }];
            now(replica.commit(Batch { ops, ..Batch::default() })).unwrap();
            let row = now(local.get(&key)).unwrap().unwrap();
            assert_eq!(row["a"].to_string(), json!(zero).to_string());
        }
    }

    #[test]
    fn a_removed_table_leaves_no_position() {
        let timestamps = MemoryTimestampStore::default();
        let stores = (MemoryLocalStore::default(), MemoryQueueStore::default());
        let replica = now(SplitReplica::open(stores.0, stores.1, timestamps.clone(), [1; 16])).unwrap();
        let table = "t".parse().unwrap();
        now(replica.add_table(TableOptions::new("t".parse().unwrap()))).unwrap();
        assert!(now(timestamps.all()).unwrap().contains_key(&table));
        now(replica.remove_table(&table)).unwrap();
        assert!(now(timestamps.all()).unwrap().is_empty());
    }
}
