//! `dynos clone`: a new device.

use std::{fs::OpenOptions, io, path::Path, sync::Arc};

use dynos_sync::{
    SyncError, clone_database,
    core::{
        Remote, Replica, TableSpec,
        replica::{Existing, TableOptions},
    },
    sqlite::{SqliteOptions, SqliteReplica},
};

use crate::{
    cli::{CloneArgs, StrategyArg},
    commands::sync,
    connection::Connection,
    error::{Code, Failure},
    output::{Output, count},
    progress::Progress,
    secret::directory,
    tally::Tally,
};

pub(crate) async fn run(args: &CloneArgs, output: &Output) -> Result<(), Failure> {
    let connection = Connection::resolve(&args.remote, &args.database)?;
    must_be_new(&args.database)?;
    if connection.is_plain() {
        return Err(Failure::new(
            Code::Usage,
            "in plain mode a project does not tell what its tables look like",
        )
        .hint("make the tables in a new file, then use dynos track --plain and dynos sync"));
    }
    let remote = connection.open().await?;
    let progress = if output.shows_progress() { Progress::shown(0) } else { Progress::hidden() };
    let tally = Arc::new(Tally::new(remote.clone(), progress));
    let whole = sync::patiently(args.retries, async || {
        clone_database(&args.database, &SqliteOptions::default(), &*tally, u64::MAX).await
    });
    let replica = match whole.await? {
        true => SqliteReplica::open(&args.database, &SqliteOptions::default())?,
        false => by_pages(&remote, args).await?,
    };
    let pulled = pull(&replica, tally, args).await;
    replica.close().await;
    if args.remember {
        connection.remember().await?;
    }
    let report = pulled?;
    output.result(&report.document(&args.database), report.text())?;
    output.say(format_args!(
        "{} has {}",
        args.database.display(),
        count(report.state.tables.len() as u64, "table")
    ))?;
    report.verdict(&args.database)
}

/// The tables, empty.
async fn by_pages(remote: &Arc<dyn Remote>, args: &CloneArgs) -> Result<SqliteReplica, Failure> {
    // Asked before the file is made: a wrong token leaves nothing behind.
    let tables =
        sync::patiently(args.retries, async || remote.tables().await.map_err(SyncError::from)).await?;
    create(&args.database, TableSpec::parents_first(tables)).await
}

async fn pull(replica: &SqliteReplica, tally: Arc<Tally>, args: &CloneArgs) -> Result<sync::Report, Failure> {
    let done = sync::counted(replica, tally, StrategyArg::LastWriteWins, args.retries).await;
    done.map_err(|failure| {
        Failure::new(failure.code(), failure.message())
            .hint(format!("what was pulled is kept: go on with dynos sync {}", args.database.display()))
    })
}

fn exists(path: &Path) -> Failure {
    Failure::new(Code::Exists, format!("{}: the file exists", path.display()))
        .hint("name a new file; an existing database is synced with dynos track and dynos sync")
}

fn must_be_new(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        return Err(exists(path));
    }
    match directory(path).metadata() {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::file(directory(path), &error)),
    }
}

/// Makes the file with its tables, or nothing.
pub(super) async fn create(path: &Path, tables: Vec<TableSpec>) -> Result<SqliteReplica, Failure> {
    // Whoever makes it first has it: two commands never share a new file.
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => Failure::file(path, &error),
    })?;
    match SqliteReplica::open(path, &SqliteOptions::default()) {
        Ok(replica) => match add(&replica, tables).await {
            Ok(()) => Ok(replica),
            Err(failure) => {
                replica.close().await;
                remove(path);
                Err(failure)
            }
        },
        Err(error) => {
            remove(path);
            Err(error.into())
        }
    }
}

async fn add(replica: &SqliteReplica, tables: Vec<TableSpec>) -> Result<(), Failure> {
    for spec in tables {
        let name = spec.name.clone();
        let options = TableOptions {
            create: Some(spec),
            existing: Existing::Ignore,
            ..TableOptions::new(name.clone())
        };
        replica.add_table(options).await.map_err(|error| {
            let failure = Failure::from(error);
            Failure::new(failure.code(), format!("table {name} cannot be made: {}", failure.message()))
                .hint("make the tables by hand in a new file, then use dynos track and dynos sync")
        })?;
    }
    Ok(())
}

fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        // What is not there need not go.
        let _ = std::fs::remove_file(name);
    }
}
