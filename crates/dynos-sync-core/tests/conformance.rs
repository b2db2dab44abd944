//! The replica and the server in memory pass the suites that every adapter has to pass.

mod replica {
    use std::sync::Arc;

    use dynos_sync_core::{
        Replica, conformance::replica::Fixture, memory::MemoryReplica, replica_conformance,
    };

    struct Memory;

    #[async_trait::async_trait]
    impl Fixture for Memory {
        async fn open(&self) -> Arc<dyn Replica> {
            Arc::new(MemoryReplica::new([7; 16]))
        }

        fn is_durable(&self) -> bool {
            false
        }
    }

    replica_conformance!(Memory);
}

mod remote {
    use std::sync::{Arc, Mutex, PoisonError};

    use dynos_sync_core::{Remote, conformance::remote::Fixture, memory::MemoryServer, remote_conformance};

    #[derive(Default)]
    struct Memory {
        server: MemoryServer,
        copy: Mutex<MemoryServer>,
    }

    #[async_trait::async_trait]
    impl Fixture for Memory {
        async fn remote(&self, user: &str) -> Arc<dyn Remote> {
            Arc::new(self.server.remote(user))
        }

        async fn backup(&self) -> Option<()> {
            *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = self.server.backup();
            Some(())
        }

        async fn restore(&self) {
            self.server.restore(&self.copy.lock().unwrap_or_else(PoisonError::into_inner));
        }

        async fn purge(&self) -> Option<()> {
            self.server.purge();
            Some(())
        }
    }

    remote_conformance!(Memory::default());
}
