//! The command line.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use dynos_sync::{Strategy, core::replica::TablePolicy};

use crate::{
    commands::{Shape, Side, Workload},
    time::duration,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line is at fault
  3  not everything is synced: the server cannot be reached, or changes were refused
  4  sign-in required: there is no valid token
  5  refused, so that nothing is lost or mixed up: the file exists, the server is another one, changes are unsynced

With --json, results are one JSON document on stdout, and failures are {\"error\": {code, message, hint}} on stderr.
Times are RFC 3339 in UTC.";

/// Offline-first sync of SQLite databases.
#[derive(Debug, Parser)]
#[command(name = "dynos", version, about, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    /// Print results and failures as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more to stderr; twice for details. RUST_LOG overrides it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server.
    #[command(after_help = "--json: {listening}")]
    Serve(ServeArgs),
    /// Make a token for a user, on the server's machine.
    #[command(after_help = "--json: {token, user, expires_at}")]
    Token(TokenArgs),
    /// Begin to sync tables of a database.
    #[command(
        after_help = "--json: {database, remembered, tables: [{table, status, reason}]}; status is tracked, already_tracked, changed or unsuitable"
    )]
    Track(TrackArgs),
    /// Go on with a database that the Dart package dynos_sync has used: sync its tables, and queue what it has not pushed.
    #[command(
        name = "import-dart",
        after_help = "Exit codes: 0 all of it, also where there is nothing more to take over; 3 some of the changes could not be taken over: they stay where they are.\n\n\
                      --json: {database, tables: [table], queued, left: [{entry, problem}]}"
    )]
    ImportDart(ImportDartArgs),
    /// Stop syncing tables. Their rows stay.
    #[command(after_help = "--json: {database, untracked: [table], forgotten}")]
    Untrack(UntrackArgs),
    /// Make a new database with everything that a server has for you.
    #[command(after_help = "--json: as of dynos sync")]
    Clone(CloneArgs),
    /// Push and pull.
    #[command(
        after_help = "--json: {database, complete, total, tables: {TABLE: {pushed, pulled, conflicts, rejected, dead_letters}}, pending, dead_letters, quarantined}\n--watch --json: one line per event, {at, event, …}"
    )]
    Sync(SyncArgs),
    /// Show how things stand.
    #[command(
        after_help = "--json: {database, replica, server, remote, token_remembered, pending, dead_letters, conflicts, quarantined, quarantine: [{table, record_id, error}], tables: [{table, kind, phase, pull, declared, cursor, synced_at, sensitive_fields, owner_columns, user}]}"
    )]
    Status(DatabaseArgs),
    /// List changes that are not yet pushed, oldest first.
    #[command(
        after_help = "--json: {database, pending, entries: [{counter, table, id, operation, fields, at, sent, attempts, retry_at, transaction}]}"
    )]
    Queue(QueueArgs),
    /// List changes that the server refused for good; retry or discard them.
    #[command(
        after_help = "--json: {dead_letters: [{id, table, record_id, code, message, at, edits: [{operation, fields, at}]}]}, {retried} or {discarded}"
    )]
    DeadLetters(DeadLettersArgs),
    /// List decided conflicts; bring back the version that lost.
    #[command(
        after_help = "--json: {conflicts: [{id, table, record_id, strategy, kept, decided_at}]}; show adds base, local, remote and outcome to one of these; {undone}"
    )]
    Conflicts(ConflictsArgs),
    /// Say why a record has not synced, look through a database, or write a report for support.
    #[command(
        long_about = "Say why a record has not synced (with TABLE and ID), look through a database, or write a report for support (--bundle).\n\n\
                      It calls no server, and only reads: also what another program has open, or what is damaged.",
        after_help = "Exit codes: 0 sound, or the record is synced; 1 something is damaged, or there is no such record; 3 the record is not synced.\n\n\
                      --json: {database, sound, findings: [{level, check, table, problem, remedy}], pending, dead_letters, conflicts, quarantined, tables: \
                      [{table, rows, queued, sent, refused, waiting, noted, dead_letters, quarantined}], storage: {NAME: value}}; level is note, warning or fault\n\
                      with a record: {database, table, id, conclusion, synced, sentence, remedy, command, row: {state, fields}, tracked: {phase, pull, declared, synced_at, \
                      sensitive_fields, owner_columns, user}, pending: [{counter, operation, fields, at, sent, base, attempts, retry_at, transaction}], noted: {changes, at}, \
                      last_answer: {at, error}, next_attempt, dead_letters: [{id, code, message, at, edits, transaction}], conflicts: [{id, strategy, decided_at}], quarantine}\n\
                      with --bundle: {written}"
    )]
    Doctor(DoctorArgs),
    /// Prepare a Supabase project.
    #[command(after_help = "--json: {sql} or {written}")]
    Supabase(SupabaseArgs),
    /// See it work: a server and three devices, offline edits, conflicts and a crash, in a few seconds.
    #[command(after_help = "--json: {equal, tables: {TABLE: rows}, differences}")]
    Demo,
    /// Measure how fast this machine is with the engine, beside how fast it is without.
    #[command(
        after_help = "--json: {shape, runs, cores, workloads: [{workload, title, limit_title, rows, ratio, limit: [run], ours: [run]}]}; a run is {seconds, count, p50_ms, p99_ms, peak_bytes, wire_bytes, disk_bytes, remark}"
    )]
    Bench(BenchArgs),
    /// One measurement.
    #[command(name = "bench-one", hide = true)]
    BenchOne(BenchOneArgs),
    /// A server that does only what a limit needs.
    #[command(name = "bench-limit", hide = true)]
    BenchLimit(BenchLimitArgs),
    /// Sync, and stop in the middle until killed.
    #[command(name = "demo-crash", hide = true)]
    DemoCrash(DemoCrashArgs),
}

/// Where the server is, and who signs in. Flags count before the environment, and that before what is remembered.
#[derive(Clone, Default, Args)]
pub(crate) struct RemoteArgs {
    /// The server's address [env: DYNOS_REMOTE].
    #[arg(long, value_name = "URL")]
    pub(crate) remote: Option<String>,
    /// The token [env: DYNOS_TOKEN]. Other users of this machine may see it in the list of processes.
    #[arg(long, value_name = "T", conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// A file that holds the token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A Supabase project's URL, in place of --remote [env: DYNOS_SUPABASE_URL].
    #[arg(long, value_name = "URL", conflicts_with = "remote")]
    pub(crate) supabase: Option<String>,
    /// The project's public key, "anon" or "publishable" [env: DYNOS_ANON_KEY].
    #[arg(long, value_name = "K")]
    pub(crate) anon_key: Option<String>,
    /// Sync the project's tables as they are: nothing was installed in its database. Promises less.
    #[arg(long)]
    pub(crate) plain: bool,
    /// Sign in to the project with this address, and the password in DYNOS_PASSWORD or --password-file.
    #[arg(long, value_name = "E", conflicts_with_all = ["token", "token_file"])]
    pub(crate) email: Option<String>,
    /// A file that holds the password.
    #[arg(long, value_name = "FILE", requires = "email")]
    pub(crate) password_file: Option<PathBuf>,
    /// Let the token travel unencrypted to another machine.
    #[arg(long)]
    pub(crate) allow_plain_http: bool,
}

impl fmt::Debug for RemoteArgs {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteArgs").finish_non_exhaustive()
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where the server keeps its database and its secret. Made where it is missing.
    #[arg(long, value_name = "DIR", default_value = "dynos-data")]
    pub(crate) data: PathBuf,
    /// Where to listen. Port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7171")]
    pub(crate) listen: SocketAddr,
    /// The secret that signs tokens; made on first start. Default: DIR/secret.
    #[arg(long, value_name = "FILE", conflicts_with = "jwks")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Tables that all users share. Others exist once per user.
    #[arg(long, value_name = "TABLE", num_args = 1..)]
    pub(crate) shared: Vec<String>,
    /// Check tokens with these keys (a JSON Web Key Set) in place of the secret.
    #[arg(long, value_name = "FILE|URL")]
    pub(crate) jwks: Option<String>,
    /// What the tokens' `aud` has to contain.
    #[arg(long, value_name = "A", requires = "jwks")]
    pub(crate) audience: Option<String>,
    /// Log requests to stderr.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log: Option<LogFormat>,
    /// For how many days deletions are remembered. Devices that stay away for longer compare everything.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub(crate) tombstone_days: u32,
    /// The most MiB that the snapshots for first pulls take, in DIR/snapshots. With 0 there are none.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub(crate) snapshot_mib: u32,
    /// Do not wait for the disk: a power failure may take the last commits away.
    #[arg(long, conflicts_with = "database_url")]
    pub(crate) allow_lazy_commits: bool,
    #[command(flatten)]
    pub(crate) postgres: PostgresArgs,
}

/// A Postgres database in place of the file. Several servers may share one.
#[derive(Clone, Args)]
pub(crate) struct PostgresArgs {
    /// Keep the data in this Postgres database: postgres://user:password@host/name. Other users of this machine may see
    /// the list of processes: prefer the variable.
    #[arg(long, value_name = "URL", env = "DYNOS_DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// The database role whose rights and row-level security requests have.
    #[arg(long, value_name = "ROLE", requires = "database_url")]
    pub(crate) database_role: Option<String>,
    /// The certificate authority that signs the database server's certificate, in PEM. Default: the system's.
    #[arg(long, value_name = "FILE", requires = "database_url")]
    pub(crate) database_ca: Option<PathBuf>,
    /// The most connections to the database.
    #[arg(long, value_name = "N", default_value_t = 16, requires = "database_url", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) database_connections: u16,
}

impl fmt::Debug for PostgresArgs {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresArgs").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The user.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: String,
    /// The server's data directory.
    #[arg(long, value_name = "DIR", default_value = "dynos-data")]
    pub(crate) data: PathBuf,
    /// The server's secret. Default: DIR/secret.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// For how long it is valid: 45m, 12h, 30d.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration)]
    pub(crate) ttl: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct TrackArgs {
    /// The database.
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    /// The tables.
    #[arg(value_name = "TABLE", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) tables: Vec<String>,
    /// All tables that can be synced.
    #[arg(long)]
    pub(crate) all: bool,
    /// Make tables that do not exist: an id, and a JSON document.
    #[arg(long)]
    pub(crate) create: bool,
    /// What becomes of the rows that are there: offered to the server, or left alone until they change.
    #[arg(long, value_name = "push|ignore", default_value = "push")]
    pub(crate) existing: ExistingArg,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// Write the server and the token (with --email: what renews it) to DB.dynos, readable for you only.
    #[arg(long)]
    pub(crate) remember: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// How tables are synced.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// A column that names a row's owner. May be repeated. Default: user_id, owner_id.
    #[arg(long, value_name = "C")]
    pub(crate) owner_column: Vec<String>,
    /// This device's user: rows that name another owner are neither pushed nor taken.
    #[arg(long, value_name = "U")]
    pub(crate) user: Option<String>,
    /// Fields that are masked before they leave the device: names, or dotted paths.
    #[arg(long, value_name = "FIELD")]
    pub(crate) sensitive: Vec<String>,
}

impl PolicyArgs {
    /// What is not said stays as it is: tracking a table again must not unmask a field.
    pub(crate) fn applied_to(&self, mut policy: TablePolicy) -> TablePolicy {
        if !self.owner_column.is_empty() {
            policy.owner_columns.clone_from(&self.owner_column);
        }
        if !self.sensitive.is_empty() {
            policy.sensitive_fields.clone_from(&self.sensitive);
        }
        if self.user.is_some() {
            policy.user.clone_from(&self.user);
        }
        policy
    }
}

#[derive(Debug, Args)]
pub(crate) struct ImportDartArgs {
    /// The database.
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ExistingArg {
    Push,
    Ignore,
}

#[derive(Debug, Args)]
pub(crate) struct UntrackArgs {
    /// The database.
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    /// The tables.
    #[arg(value_name = "TABLE", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) tables: Vec<String>,
    /// All of them; the remembered server and token too.
    #[arg(long)]
    pub(crate) all: bool,
    /// Give up changes that are not synced.
    #[arg(long)]
    pub(crate) discard: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    /// The database to make. It must not exist.
    #[arg(value_name = "NEW.sqlite")]
    pub(crate) database: PathBuf,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// How often a failure that may pass is met with another try.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) retries: u32,
    /// Write the server and the token (with --email: what renews it) to NEW.sqlite.dynos, readable for you only.
    #[arg(long)]
    pub(crate) remember: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// The database.
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Go on syncing until interrupted.
    #[arg(long)]
    pub(crate) watch: bool,
    /// How conflicts are decided. The same on every device.
    #[arg(long, value_name = "S", default_value = "last-write-wins")]
    pub(crate) strategy: StrategyArg,
    /// How often a failure that may pass is met with another try. With --watch there is no limit.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) retries: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum StrategyArg {
    LastWriteWins,
    ServerWins,
    ClientWins,
    Merge,
}

impl StrategyArg {
    pub(crate) fn strategy(self) -> Strategy {
        match self {
            Self::LastWriteWins => Strategy::LastWriteWins,
            Self::ServerWins => Strategy::ServerWins,
            Self::ClientWins => Strategy::ClientWins,
            Self::Merge => Strategy::Merge,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DatabaseArgs {
    /// The database.
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The database.
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    /// A record's table.
    #[arg(value_name = "TABLE", requires = "id")]
    pub(crate) table: Option<String>,
    /// The record's id: a text key as it is, another key as JSON.
    #[arg(value_name = "ID", allow_hyphen_values = true)]
    pub(crate) id: Option<String>,
    /// Neither compare indexes with rows nor count rows: faster for large files.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write a report for support to a new file. No value, id, address or token is in it.
    #[arg(long, value_name = "FILE", conflicts_with = "table")]
    pub(crate) bundle: Option<PathBuf>,
    /// Keep the names of tables and columns in it.
    #[arg(long, requires = "bundle")]
    pub(crate) names: bool,
}

#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// The database.
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    /// The most changes to list.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct DeadLettersArgs {
    /// The database.
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    #[command(subcommand)]
    pub(crate) action: DeadLetterAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterAction {
    /// List them, oldest first.
    List,
    /// Write and queue the edits again.
    Retry {
        /// The letter's number.
        id: i64,
    },
    /// Give the edits up.
    Discard {
        /// The letter's number.
        id: i64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConflictsArgs {
    /// The database.
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    #[command(subcommand)]
    pub(crate) action: ConflictAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConflictAction {
    /// List them, newest first.
    List,
    /// Show all versions.
    Show {
        /// The conflict's number.
        id: i64,
    },
    /// Bring back the version that lost, as a new edit.
    Undo {
        /// The conflict's number.
        id: i64,
    },
    /// Forget a conflict.
    Discard {
        /// The conflict's number.
        id: i64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SupabaseArgs {
    #[command(subcommand)]
    pub(crate) action: SupabaseAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SupabaseAction {
    /// Print a migration that lets the project's database sync tables. Running it again changes nothing.
    Init(SupabaseInitArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SupabaseInitArgs {
    /// Tables whose rows belong to users, parted by commas.
    #[arg(long, value_name = "TABLES", value_delimiter = ',')]
    pub(crate) tables: Vec<String>,
    /// The column that names a row's user.
    #[arg(long, value_name = "C", default_value = "user_id")]
    pub(crate) owner_column: String,
    /// Tables that all users share, as far as row-level security lets them.
    #[arg(long, value_name = "TABLES", value_delimiter = ',')]
    pub(crate) shared: Vec<String>,
    /// Write it to a new file, such as supabase/migrations/20260101000000_dynos_sync.sql.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoCrashArgs {
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The workloads. Default: all.
    #[arg(value_name = "WORKLOAD")]
    pub(crate) workloads: Vec<Workload>,
    /// How many rows. Default: as many as suit the workload.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rows: Option<u64>,
    /// How often each is measured. The median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) runs: usize,
    /// What the records look like.
    #[arg(long, value_name = "SHAPE", default_value = "usual")]
    pub(crate) shape: Shape,
    /// Where the files are: a directory on the disk that is to be measured. What both sides need stays there for the next time.
    /// Default: a temporary directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchOneArgs {
    pub(crate) workload: Workload,
    pub(crate) side: Side,
    #[arg(long)]
    pub(crate) rows: u64,
    #[arg(long)]
    pub(crate) shape: Shape,
    #[arg(long)]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct BenchLimitArgs {
    pub(crate) kind: String,
    pub(crate) dir: PathBuf,
}
