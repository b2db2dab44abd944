//! What the operator decides.

use std::{collections::BTreeSet, fmt, path::PathBuf, sync::Arc, time::Duration};

use dynos_sync_core::{Millis, TableName};

/// How the server runs. Start from [`Config::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The SQLite file. It is made where it is missing; its directory must exist. Two more files are kept
    /// beside it while the server runs (`-wal`, `-shm`), and a `-lock`, so that no second server opens it.
    pub database: PathBuf,
    /// Who may sign tokens.
    pub auth: Auth,
    /// What a token's `aud` has to contain. Default: none, `aud` is then not looked at. Set it wherever the
    /// tokens' issuer also signs for other services: theirs would open this one too.
    pub audience: Option<String>,
    /// By how much clocks may differ when a token's `exp` and `nbf` are checked. Default: 5 s.
    pub leeway: Duration,
    /// Tables that every user shares; all others exist once per user. Default: none. Everybody who holds a
    /// valid token may write to them. Moving a table in or out does not move its records.
    pub shared_tables: BTreeSet<TableName>,
    /// How much a caller may ask for.
    pub limits: Limits,
    /// How long things are remembered.
    pub retention: Retention,
    /// Snapshots for the first pulls of devices.
    pub snapshots: SnapshotOptions,
    /// When a commit is on the disk. Default: [`Durability::Full`].
    pub durability: Durability,
    /// Who does the work of the SQLite store. Default: [`Threads::Own`].
    pub threads: Threads,
    /// Where the server reads the time, in milliseconds since 1970. Default: the system's clock.
    pub now: Now,
}

impl Config {
    /// The defaults, for a database and a signing authority.
    pub fn new(database: impl Into<PathBuf>, auth: Auth) -> Self {
        Self {
            database: database.into(),
            auth,
            audience: None,
            leeway: Duration::from_secs(5),
            shared_tables: BTreeSet::new(),
            limits: Limits::default(),
            retention: Retention::default(),
            snapshots: SnapshotOptions::default(),
            durability: Durability::default(),
            threads: Threads::default(),
            now: Now::default(),
        }
    }
}

/// Who does the work of the SQLite store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threads {
    /// Threads of its own: no call blocks, and pushes that wait together are committed together.
    #[default]
    Own,
    /// Whoever calls, within the call: for simulations, which have to come out the same each time.
    Caller,
}

/// Who may sign tokens.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Whoever knows this secret, with HS256. At least [`Secret::MIN_BYTES`] long.
    Secret(Secret),
    /// The keys of a JSON Web Key Set in a file, read once.
    JwksFile(PathBuf),
    /// The keys of a JSON Web Key Set at an address, which must be `https` unless it is this machine's own.
    JwksUrl {
        /// The address.
        url: String,
        /// How old the keys may get before they are fetched again. A token with an unknown key asks for them
        /// earlier, at most every ten seconds.
        refresh: Duration,
    },
}

/// A secret that shows itself nowhere.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// The shortest secret accepted, in bytes: HS256 is only as strong as its secret is long.
    pub const MIN_BYTES: usize = 32;

    /// Wraps a secret.
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How much a caller may ask for. What goes beyond is refused with an answer that says so.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest request as it comes over the wire, in bytes. Default: 8 MiB.
    pub body_bytes: usize,
    /// The largest request after decompression, in bytes. Default: 8 MiB. A request's memory is a few times this.
    pub decoded_bytes: usize,
    /// The most entries in a push, and the most unsettled counters in a pull. Default: 5000.
    pub push_entries: usize,
    /// The largest record, as compact JSON, in bytes. Default: 1 MiB.
    pub record_bytes: usize,
    /// The most changes in a page. Default: 1000.
    pub page_changes: usize,
    /// The most bytes of records in a page; a single record may exceed it. Default: 4 MiB.
    pub page_bytes: usize,
    /// The most tables that a user, or all users together for shared ones, may declare. Default: 1000.
    pub tables: usize,
    /// How long a request may take, its body included. Default: 30 s.
    pub request_time: Duration,
    /// How long a connection may take to send a request's head, may wait for its next one, and may leave an
    /// answer unread. Default: 30 s.
    pub head_time: Duration,
    /// The most requests that are worked on at once; others are asked to come back. Default: 256.
    pub requests: usize,
    /// The most open connections; others wait. Default: 4096.
    pub connections: usize,
    /// The most event streams a user may hold. Default: 16.
    pub events_per_user: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 << 20,
            decoded_bytes: 8 << 20,
            push_entries: 5000,
            record_bytes: 1 << 20,
            page_changes: 1000,
            page_bytes: 4 << 20,
            tables: 1000,
            request_time: Duration::from_secs(30),
            head_time: Duration::from_secs(30),
            requests: 256,
            connections: 4096,
            events_per_user: 16,
        }
    }
}

/// How long things are remembered.
#[derive(Clone, Debug)]
pub struct Retention {
    /// How long a deletion waits for devices to learn of it. Default: 90 days. A device that stays away for
    /// longer compares the whole table when it returns.
    pub tombstones: Duration,
    /// How long an entry's outcome is remembered. Default: 30 days. It must not be less than the time for which
    /// devices keep their queues: a repeat that comes later could take effect twice.
    pub outcomes: Duration,
    /// The pause between two rounds of forgetting. Default: 1 hour.
    pub interval: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            tombstones: Duration::from_secs(90 * DAY),
            outcomes: Duration::from_secs(30 * DAY),
            interval: Duration::from_secs(60 * 60),
        }
    }
}

/// Snapshots: SQLite files that the server prepares, so that a device's first pull is quick.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// The most bytes that a snapshot may have while it is built, and about the most that all of them take when they are packed.
    /// Default: 1 GiB. With 0 there are none, and devices pull pages.
    pub bytes: u64,
    /// The least records: fewer are pulled by pages. Default: 5000.
    pub rows: u64,
    /// How long a snapshot is given out. Default: 10 minutes. A device pulls afterwards what has changed since.
    pub age: Duration,
    /// Where they are kept while the server runs. Default: beside the SQLite file, with `-snapshots` behind its name; with another
    /// store, in the system's directory for temporary files.
    pub directory: Option<PathBuf>,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self { bytes: 1 << 30, rows: 5000, age: Duration::from_secs(10 * 60), directory: None }
    }
}

/// When a commit is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before it is answered: nothing acknowledged is lost in a power failure.
    #[default]
    Full,
    /// Soon after. A power failure may take the last commits away; devices notice, and offer theirs again.
    Normal,
}

/// A source of the time, in milliseconds since 1970.
#[derive(Clone)]
pub struct Now(Arc<dyn Fn() -> Millis + Send + Sync>);

impl Now {
    /// Reads the time from a function: a test's, for instance.
    pub fn new(now: impl Fn() -> Millis + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn millis(&self) -> Millis {
        (self.0)()
    }
}

impl Default for Now {
    fn default() -> Self {
        Self::new(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
        })
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now(…)")
    }
}
