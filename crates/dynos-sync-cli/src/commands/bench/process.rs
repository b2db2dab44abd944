//! A server in a process of its own: the command itself, as people run it.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use dynos_sync::remote::HttpRemote;
use dynos_sync_server::mint;
use serde_json::Value;

use super::{
    failed,
    record::USER,
    sample::{memory_bytes, peak_bytes},
};
use crate::{error::Failure, secret, time};

/// A process that listens. It is killed when this is dropped.
pub(super) struct Process {
    child: Child,
    pub(super) url: String,
    data: PathBuf,
}

impl Process {
    /// `dynos serve` on a directory.
    pub(super) fn server(data: &Path) -> Result<Self, Failure> {
        Self::start(serve(data)?, data)
    }

    /// As [`server`](Self::server), on a Postgres database.
    pub(super) fn server_on(data: &Path, postgres: &str) -> Result<Self, Failure> {
        let mut command = serve(data)?;
        command.env("DYNOS_DATABASE_URL", postgres);
        Self::start(command, data)
    }

    /// A server that does only what a limit needs.
    pub(super) fn limit(kind: &str, dir: &Path) -> Result<Self, Failure> {
        let mut command = this()?;
        command.args(["--json", "bench-limit", kind]).arg(dir);
        Self::start(command, dir)
    }

    fn start(mut command: Command, data: &Path) -> Result<Self, Failure> {
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let url = said["listening"].as_str().unwrap_or_default().to_owned();
        let process = Self { child, url, data: data.to_owned() };
        if process.url.is_empty() { Err(failed(&"the server did not start")) } else { Ok(process) }
    }

    /// A client of it, with a token for the user.
    pub(super) fn remote(&self) -> Result<HttpRemote, Failure> {
        self.remote_of(USER)
    }

    /// As [`remote`](Self::remote), for any user.
    pub(super) fn remote_of(&self, user: &str) -> Result<HttpRemote, Failure> {
        Ok(HttpRemote::builder(&self.url).token(self.token(user)?).build()?)
    }

    fn token(&self, user: &str) -> Result<String, Failure> {
        let secret = secret::read(&secret::path(&self.data, None))?;
        mint(&secret, user, Duration::from_secs(24 * 3600), time::now()).map_err(|error| failed(&error))
    }

    /// The most memory that it has had so far.
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        peak_bytes(&self.child.id().to_string())
    }

    /// The memory that it has now.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        memory_bytes(&self.child.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(data: &Path) -> Result<Command, Failure> {
    let mut command = this()?;
    command.args(["--json", "serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    Ok(command)
}

fn this() -> Result<Command, Failure> {
    Ok(Command::new(std::env::current_exe()?))
}
