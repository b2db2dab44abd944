//! `dynos serve`.

use std::{
    collections::BTreeSet,
    error::Error,
    fs::{self, DirBuilder, OpenOptions},
    io,
    path::Path,
    sync::Arc,
    time::Duration,
};

use dynos_sync::core::TableName;
use dynos_sync_server::{
    Config, OpenError, Server,
    config::{Auth, Durability},
    store::{
        PostgresStore,
        postgres::{ConnectError, PostgresOptions},
    },
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    cli::ServeArgs,
    error::{Code, Failure},
    output::Output,
    secret, signals,
};

pub(crate) async fn run(args: &ServeArgs, output: &Output) -> Result<(), Failure> {
    let shutdown = signals::shutdown()?;
    make_directory(&args.data).map_err(|error| Failure::file(&args.data, &error))?;
    let config = config(args)?;
    let server = match &args.postgres.database_url {
        Some(url) => on_postgres(url, args, config).await?,
        None => {
            make_private(&config.database).map_err(|error| Failure::file(&config.database, &error))?;
            Server::open(config).map_err(|error| cannot_open(args, &error))?
        }
    };
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        Failure::new(Code::Failed, format!("{}: {error}", args.listen))
            .hint("choose another address with --listen")
    })?;
    let url = format!("http://{}", listener.local_addr()?);
    if !args.listen.ip().is_loopback() {
        output.note("this is plain HTTP, reachable from other machines: put TLS in front of it");
    }
    output.result(&json!({"listening": url}), format_args!("listening on {url}\n"))?;
    server.serve(listener, shutdown).await.map_err(|error| chain(&error))
}

async fn on_postgres(url: &str, args: &ServeArgs, config: Config) -> Result<Server, Failure> {
    let mut options = PostgresOptions::new(url);
    options.role.clone_from(&args.postgres.database_role);
    options.root_certificate.clone_from(&args.postgres.database_ca);
    options.connections = args.postgres.database_connections.into();
    let store = PostgresStore::connect(&options, &config).await.map_err(|error| {
        let failure = chain(&error);
        match error {
            ConnectError::Install(_) => failure.hint(
                "the role must own the database, or be a member of the role that has installed the functions there",
            ),
            ConnectError::Unreachable(_) => failure.hint("see that the server is up, and the URL right"),
            _ => failure.hint("correct --database-url"),
        }
    })?;
    Server::with_store(Arc::new(store), config).map_err(|error| chain(&error))
}

/// The directory holds everybody's records: it is for its owner only.
fn make_directory(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// The database is for its owner only, also where the directory is not. SQLite makes its other files alike.
fn make_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn config(args: &ServeArgs) -> Result<Config, Failure> {
    let mut config = Config::new(args.data.join("sync.db"), auth(args)?);
    config.audience.clone_from(&args.audience);
    config.snapshots.bytes = u64::from(args.snapshot_mib) << 20;
    config.snapshots.directory = Some(args.data.join("snapshots"));
    config.shared_tables =
        args.shared.iter().map(|table| table.parse()).collect::<Result<BTreeSet<TableName>, _>>()?;
    config.retention.tombstones = Duration::from_secs(u64::from(args.tombstone_days) * 24 * 60 * 60);
    if args.allow_lazy_commits {
        config.durability = Durability::Normal;
    }
    Ok(config)
}

fn auth(args: &ServeArgs) -> Result<Auth, Failure> {
    match &args.jwks {
        None => secret::read_or_make(&secret::path(&args.data, args.secret_file.as_ref())).map(Auth::Secret),
        Some(url) if url.starts_with("https://") || url.starts_with("http://") => {
            Ok(Auth::JwksUrl { url: url.clone(), refresh: Duration::from_secs(60 * 60) })
        }
        Some(file) => Ok(Auth::JwksFile(file.into())),
    }
}

fn cannot_open(args: &ServeArgs, error: &OpenError) -> Failure {
    let failure = chain(error);
    match error {
        OpenError::Keys(_) => failure,
        _ => failure.hint(format!("does another server use {}? Else see what -v says", args.data.display())),
    }
}

/// The error with its causes.
fn chain(error: &dyn Error) -> Failure {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    Failure::new(Code::Failed, message)
}
