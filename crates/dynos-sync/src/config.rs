//! How an engine behaves.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use dynos_sync_core::{
    Ownership, RemoteError, TableName, conflict::Strategy, plan::backoff::Backoff, replica::TablePolicy,
};

/// How an engine behaves. Every field has a default that is safe to ship.
#[derive(Clone)]
#[non_exhaustive]
pub struct SyncConfig {
    /// The most records that one push carries. Default 1000. Larger batches are faster on good networks and lose more
    /// when a connection breaks; a server that finds one too large has it halved.
    pub batch_size: usize,
    /// The most bytes of fields that one push carries. Default 1 MiB. A larger record travels alone.
    pub max_batch_bytes: usize,
    /// The most changes that one page of a pull holds. Default 1000. Memory grows with it.
    pub page_size: usize,
    /// The largest snapshot that is taken for a first pull, in bytes, unpacked. Default 1 GiB; with 0 first pulls come as pages. While it is
    /// fetched, its file and a packed one lie beside the database; while a table of it is put in place, edits wait.
    pub max_snapshot_bytes: u64,
    /// How long a decided conflict stays in the journal. Default 30 days. The server remembers what it has applied for as
    /// long. What is queued is kept until it is settled, however long that takes.
    pub queue_retention: Duration,
    /// Whether `sync_all` ends at the first call that fails. Default true. Otherwise it goes on with the other tables,
    /// and reports the first error.
    pub stop_on_first_error: bool,
    /// How often an edit may be refused by the server before it goes to the dead letters. Default 3. Failures of the
    /// network are never counted.
    pub max_retries: u32,
    /// Fields that are masked before they are stored or sent: names, or dotted paths. Default none.
    pub sensitive_fields: Vec<String>,
    /// The columns that name a row's owner. Default `user_id` and `owner_id`.
    pub owner_columns: Vec<String>,
    /// Whether pauses after failures grow. Default true.
    pub use_exponential_backoff: bool,
    /// The longest pause. Default 60 s.
    pub max_backoff: Duration,
    /// How conflicts are decided. Default: last write wins. The same on every device.
    pub conflict_strategy: Strategy,
    /// How those of single tables are, by the table's name. Default none: all as [`conflict_strategy`](Self::conflict_strategy) says.
    pub table_strategies: BTreeMap<String, Strategy>,
    /// The largest record, as compact JSON. Default 1 MiB.
    pub max_payload_bytes: usize,
    /// Whether the local row keeps an edit that the server refuses for good. Default false: the row takes the server's
    /// version, so that all devices agree, and the edit waits among the dead letters.
    pub keep_refused: bool,
    /// Whether the engine syncs by itself: pushes what is queued, and pulls. Default true.
    pub auto_sync: bool,
    /// How often the engine pulls by itself, beside live hints. Default 60 s.
    pub pull_interval: Duration,
    /// How often the engine looks for what other programs wrote to the database, where the platform does not say so. Default 1 s. On
    /// Linux and Android it does: nobody looks, and what is written is heard of at once.
    pub poll_interval: Duration,
    /// The most pages that one pull of a table takes. Default 1,000,000: only a server that never ends meets it.
    pub max_pages: usize,
    /// Overrides what counts as a failure that passes by itself. `None` from the hook leaves it to the engine.
    pub is_transient: Option<TransientHook>,
}

/// A hook that says whether a failure passes by itself, or leaves it to the engine.
pub type TransientHook = Arc<dyn Fn(&RemoteError) -> Option<bool> + Send + Sync>;

impl Default for SyncConfig {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            batch_size: 1000,
            max_batch_bytes: MIB,
            page_size: 1000,
            max_snapshot_bytes: 1 << 30,
            queue_retention: Duration::from_secs(30 * 24 * 60 * 60),
            stop_on_first_error: true,
            max_retries: 3,
            sensitive_fields: Vec::new(),
            owner_columns: Ownership::DEFAULT_COLUMNS.map(str::to_owned).to_vec(),
            use_exponential_backoff: true,
            max_backoff: Duration::from_secs(60),
            conflict_strategy: Strategy::default(),
            table_strategies: BTreeMap::new(),
            max_payload_bytes: MIB,
            keep_refused: false,
            auto_sync: true,
            pull_interval: Duration::from_secs(60),
            poll_interval: Duration::from_secs(1),
            max_pages: 1_000_000,
            is_transient: None,
        }
    }
}

impl SyncConfig {
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff { exponential: self.use_exponential_backoff, cap: self.max_backoff }
    }

    pub(crate) fn policy(&self, user: Option<&str>, pull: bool) -> TablePolicy {
        TablePolicy {
            pull,
            sensitive_fields: self.sensitive_fields.clone(),
            owner_columns: self.owner_columns.clone(),
            user: user.map(str::to_owned),
        }
    }

    /// How conflicts of a table are decided.
    pub(crate) fn strategy(&self, table: &TableName) -> &Strategy {
        self.table_strategies.get(table.as_str()).unwrap_or(&self.conflict_strategy)
    }

    pub(crate) fn is_transient(&self, error: &RemoteError) -> bool {
        let overridden = self.is_transient.as_ref().and_then(|hook| hook(error));
        overridden.unwrap_or_else(|| error.is_transient())
    }
}

impl fmt::Debug for SyncConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncConfig")
            .field("batch_size", &self.batch_size)
            .field("page_size", &self.page_size)
            .field("conflict_strategy", &self.conflict_strategy.name())
            .finish_non_exhaustive()
    }
}
