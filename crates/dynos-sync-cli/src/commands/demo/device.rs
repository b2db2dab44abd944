//! A device of the demo: a database file, written with plain SQL and synced with the program's own commands.

use std::{
    fmt,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use dynos_sync::core::{Remote, Replica, replica::TableOptions};
use rusqlite::Connection;

use super::server::DemoServer;
use crate::{
    cli::StrategyArg,
    commands::{clone, demo_crash, sync},
    database,
    error::{Code, Failure},
    output::{Output, count},
};

pub(super) struct Device {
    name: &'static str,
    path: PathBuf,
}

/// What a sync has done.
pub(super) struct Synced {
    pub(super) moved: bool,
    text: String,
}

impl fmt::Display for Synced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Device {
    /// A device whose database is there before anything is synced.
    pub(super) async fn made(dir: &Path, name: &'static str, schema: &str) -> Result<Self, Failure> {
        let device = Self { name, path: dir.join(name).with_extension("sqlite") };
        device.edit(schema)?;
        database::with(&device.path, async |replica| {
            for spec in replica.candidates().await?.suitable {
                replica.add_table(TableOptions::new(spec.name)).await?;
            }
            Ok(())
        })
        .await?;
        Ok(device)
    }

    /// A device that begins with what the server has.
    pub(super) async fn cloned(dir: &Path, name: &'static str, server: &DemoServer) -> Result<Self, Failure> {
        let device = Self { name, path: dir.join(name).with_extension("sqlite") };
        let replica = clone::create(
            &device.path,
            dynos_sync::core::TableSpec::parents_first(server.remote()?.tables().await?),
        )
        .await?;
        replica.close().await;
        device.sync(server).await?;
        Ok(device)
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes as any program would.
    pub(super) fn edit(&self, sql: &str) -> Result<(), Failure> {
        let db = Connection::open(&self.path)?;
        db.pragma_update(None, "foreign_keys", true)?;
        Ok(db.execute_batch(sql)?)
    }

    pub(super) async fn sync(&self, server: &DemoServer) -> Result<Synced, Failure> {
        let remote = Arc::new(server.remote()?);
        let quiet = Output::new(true);
        let work = async |replica: &_| {
            sync::once(replica, remote.clone(), StrategyArg::LastWriteWins, 0, &quiet).await
        };
        let report = database::with(&self.path, work).await?;
        report.verdict(&self.path)?;
        let (pushed, pulled, conflicts) = report.moved();
        let (pushes, pulls) = (count(pushed as u64, "change"), count(pulled as u64, "change"));
        let text = format!(
            "{}: {pushes} pushed, {pulls} pulled, {}",
            self.name,
            count(conflicts as u64, "conflict")
        );
        Ok(Synced { moved: pushed + pulled > 0, text })
    }

    /// Syncs in a process of its own, which is killed in the middle.
    pub(super) async fn sync_and_die(&self, server: &DemoServer) -> Result<(), Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("demo-crash")
            .arg(&self.path)
            .env("DYNOS_REMOTE", server.url())
            .env("DYNOS_TOKEN", server.token())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mark = child.stdout.take().map(BufReader::new).and_then(|out| out.lines().next());
        // On Unix this is SIGKILL: no chance to tidy up.
        child.kill()?;
        child.wait()?;
        match mark {
            Some(Ok(line)) if line == demo_crash::MARK => Ok(()),
            _ => Err(Failure::new(Code::Failed, "the tablet's sync ended before it could be killed")),
        }
    }

    /// How many changes wait.
    pub(super) async fn pending(&self) -> Result<u64, Failure> {
        database::with(&self.path, async |replica| Ok(replica.state().await?.pending)).await
    }

    /// How many changes wait, and how many of the oldest were sent.
    pub(super) async fn queue(&self) -> Result<(u64, usize), Failure> {
        database::with(&self.path, async |replica| {
            let entries = replica.queue(0, 10_000).await?;
            Ok((replica.state().await?.pending, entries.iter().filter(|entry| entry.sent.is_some()).count()))
        })
        .await
    }

    /// What was decided here.
    pub(super) async fn conflicts(&self) -> Result<Vec<String>, Failure> {
        let journal =
            database::with(&self.path, async |replica| Ok(replica.conflicts(i64::MAX, 100).await?)).await?;
        let sentence = |resolved: &dynos_sync::core::replica::Resolved| {
            let outcome = match &resolved.outcome {
                None => "the deletion".to_owned(),
                Some(fields) => fields.get("title").map_or_else(|| "it".to_owned(), ToString::to_string),
            };
            format!("{} {}: {} keeps {outcome}", self.name, resolved.key, resolved.strategy.as_str())
        };
        Ok(journal.iter().rev().filter_map(|conflict| conflict.resolved.as_ref()).map(sentence).collect())
    }

    /// How many rows each table has.
    pub(super) fn rows(&self) -> Result<String, Failure> {
        let db = Connection::open(&self.path)?;
        let count = |table: &str| -> rusqlite::Result<String> {
            let rows: u64 = db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
            Ok(crate::output::count(rows, table))
        };
        Ok(["project", "task", "tag"].map(count).into_iter().collect::<Result<Vec<_>, _>>()?.join(", "))
    }
}
