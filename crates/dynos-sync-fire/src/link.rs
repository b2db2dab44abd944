//! The other end of a proxy's stdin and stdout.

use std::{
    env, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
    sync::watch,
};

use crate::{
    process::{DEADLINE, Process},
    tally::Tally,
};

/// What is counted by all.
pub(crate) type Counted = Arc<Mutex<Tally>>;

/// Counts something.
pub(crate) fn count<T>(tally: &Counted, add: impl FnOnce(&mut Tally) -> T) -> T {
    add(&mut tally.lock().unwrap_or_else(PoisonError::into_inner))
}

/// How a proxy is started, and started again.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) listen: SocketAddr,
    pub(crate) upstream: SocketAddr,
    pub(crate) rate: f64,
    pub(crate) tls: Option<PathBuf>,
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    stdin: ChildStdin,
    /// How often it has said that the network is calm.
    calm: watch::Receiver<usize>,
}

impl Link {
    pub(crate) async fn start(plan: &Plan, seed: u64, errors: &Path, tally: &Counted) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("proxy").args([
            "--listen",
            &plan.listen.to_string(),
            "--upstream",
            &plan.upstream.to_string(),
        ]);
        command.args(["--seed", &seed.to_string(), "--rate", &plan.rate.to_string()]);
        if let Some(dir) = &plan.tls {
            command.arg("--tls").arg(dir);
        }
        let mut process = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()), errors)?;
        let (Some(stdin), Some(stdout)) = (process.stdin(), process.stdout()) else {
            return Err(io::Error::other("a proxy has no pipes"));
        };
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(DEADLINE, lines.next_line()).await.map_err(io::Error::other)??;
        let address = first.as_deref().and_then(|line| line.strip_prefix("listening ")?.parse().ok());
        let address = address.ok_or_else(|| io::Error::other("a proxy does not start"))?;
        let (said, calm) = watch::channel(0);
        tokio::spawn(listen(lines, tally.clone(), said));
        Ok(Self { process, address, stdin, calm })
    }

    /// Lets everything pass from now on, and waits until what was held back has gone.
    pub(crate) async fn calm(&mut self) -> io::Result<()> {
        let before = *self.calm.borrow();
        self.stdin.write_all(b"calm\n").await?;
        let calm = self.calm.wait_for(|said| *said > before);
        let calm = tokio::time::timeout(DEADLINE, calm)
            .await
            .map_err(|_| io::Error::other("a proxy does not calm down"))?;
        calm.map(drop).map_err(io::Error::other)
    }

    pub(crate) async fn rough(&mut self) -> io::Result<()> {
        self.stdin.write_all(b"rough\n").await
    }
}

/// Counts what a proxy says.
async fn listen(mut lines: Lines<BufReader<ChildStdout>>, tally: Counted, calm: watch::Sender<usize>) {
    while let Ok(Some(line)) = lines.next_line().await {
        match line.split_once(' ') {
            Some(("fault", name)) => count(&tally, |tally| tally.fault(name)),
            Some(("bytes", bytes)) => count(&tally, |tally| tally.bytes += bytes.parse::<u64>().unwrap_or(0)),
            Some(("violation", what)) => count(&tally, |tally| tally.violations.push(what.to_owned())),
            _ => calm.send_modify(|said| *said += 1),
        }
    }
}
