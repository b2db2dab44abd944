//! Processes that are started, killed and watched.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long anything may take that should be done at once.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A process, ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    errors: PathBuf,
    /// Where its part of the file begins.
    from: u64,
}

impl Process {
    /// Starts it. What it says on stderr is appended to `errors`.
    pub(crate) fn start(command: &mut Command, errors: &Path) -> io::Result<Self> {
        let file = append(errors)?;
        let from = file.metadata()?.len();
        let child = command.stderr(file).kill_on_drop(true).spawn()?;
        Ok(Self { child, errors: errors.to_owned(), from })
    }

    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// SIGKILL. Answers whether it was still running.
    pub(crate) async fn kill(&mut self) -> io::Result<bool> {
        let running = self.ended()?.is_none();
        if running {
            self.child.kill().await?;
        }
        Ok(running)
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn terminate(&mut self) -> io::Result<ExitStatus> {
        if let Some(pid) = self.child.id() {
            Command::new("sh").arg("-c").arg(format!("kill -TERM {pid}")).status().await?;
        }
        tokio::time::timeout(DEADLINE, self.child.wait())
            .await
            .map_err(|_| io::Error::other("it does not end when it is asked to"))?
    }

    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// What it has said on stderr.
    pub(crate) fn said(&self) -> String {
        let bytes = fs::read(&self.errors).unwrap_or_default();
        let from = usize::try_from(self.from).unwrap_or(0);
        // The file was emptied since then, if it is shorter.
        String::from_utf8_lossy(bytes.get(from..).unwrap_or(&bytes)).into_owned()
    }

    /// The most memory that it ever had, in KiB; where the system tells.
    pub(crate) fn most_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }
}

/// A file to append to.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// A command without anything of the tester's own environment that it would heed.
pub(crate) fn dynos(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in [
        "DYNOS_TOKEN",
        "DYNOS_REMOTE",
        "DYNOS_DATABASE_URL",
        "DYNOS_SUPABASE_URL",
        "DYNOS_ANON_KEY",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
