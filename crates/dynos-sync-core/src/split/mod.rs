//! The small store roles, for those who bring their own storage.
//!
//! The engine sees a device through [`Replica`](crate::Replica) and a backend through [`Remote`](crate::Remote): large
//! seams with strong promises. Who has a key-value store, a database of their own or a plain REST backend implements
//! these small roles instead (users of the Dart package know them), and has them lifted:
//!
//! | role | what it keeps | lifted by |
//! |---|---|---|
//! | [`LocalStore`] | the rows | [`SplitReplica`], with the next two |
//! | [`QueueStore`] | what is to be sent, and all else that is to be remembered | |
//! | [`TimestampStore`] | up to where each table was pulled | |
//! | [`RemoteStore`] | the rows of everybody | [`SimpleRemote`] |
//!
//! Any three stores can be joined, and each has an implementation in memory. What is lifted is weaker than what is built
//! whole; [`SplitReplica`] and [`SimpleRemote`] say in what.
//!
//! # Example
//!
//! What was written is there when the stores are opened again, to be read and to be sent:
//!
//! ```
//! # use dynos_sync_core::ReplicaError;
//! use dynos_sync_core::{
//!     Edit, RecordKey, Replica, fields,
//!     replica::{Batch, Op, TableOptions},
//!     split::{MemoryLocalStore, MemoryQueueStore, MemoryTimestampStore, SplitReplica},
//! };
//!
//! # async fn example() -> Result<(), ReplicaError> {
//! let (rows, queue, times) =
//!     (MemoryLocalStore::default(), MemoryQueueStore::default(), MemoryTimestampStore::default());
//! let key = RecordKey::new("tasks", "1")?;
//!
//! let replica = SplitReplica::open(rows.clone(), queue.clone(), times.clone(), [7; 16]).await?;
//! replica.add_table(TableOptions::new(key.table.clone())).await?;
//! let edit = Edit::Upsert(fields([("title", "milk".into())]));
//! let write = Op::Write { key: key.clone(), edit, at: 1000 };
//! replica.commit(Batch { ops: vec![write], ..Batch::default() }).await?;
//! replica.close().await;
//!
//! let replica = SplitReplica::open(rows, queue, times, [8; 16]).await?;
//! assert_eq!(replica.get(&key).await?.unwrap()["title"], "milk");
//! assert_eq!(replica.state().await?.pending, 1);
//! # Ok(())
//! # }
//! # use std::{pin::pin, task::{Context, Poll, Waker}};
//! # let ready = pin!(example()).poll(&mut Context::from_waker(Waker::noop()));
//! # assert!(matches!(ready, Poll::Ready(Ok(()))));
//! ```

mod image;
mod in_memory;
mod memory_remote;
mod place;
mod remote_store;
mod replica;
mod scope;
mod simple_remote;
mod stores;
mod text;
mod turns;
mod work;

pub use in_memory::{MemoryLocalStore, MemoryQueueStore, MemoryTimestampStore};
pub use memory_remote::MemoryRemoteStore;
pub use remote_store::{Mark, RemoteRow, RemoteStore, RemoteWrite};
pub use replica::SplitReplica;
pub use simple_remote::SimpleRemote;
pub use stores::{LocalStore, Position, QueueChange, QueueStore, TimestampStore};
