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
