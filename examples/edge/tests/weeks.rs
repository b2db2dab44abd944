//! A month without a network.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use dynos_sync::{SyncEngine, remote::HttpRemote};
use example_testing::{TestServer, until};

const MINUTE: i64 = 60_000;
const MONTH_OF_MINUTES: usize = 30 * 24 * 60;

/// The logger's process.
struct Logger {
    process: Child,
    lines: Receiver<String>,
}

impl Logger {
    fn start(database: &Path, server: &TestServer, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge"));
        command.arg("--db").arg(database).args(["--server", &server.url(), "--token", &server.token("ada")]);
        command.args(["--every", "60", "--retry", "1"]).args(more);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        // It ends with the process.
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines }
    }

    fn until_says(&self, text: &str) {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(60)).expect(text);
            if line.contains(text) {
                return;
            }
        }
    }

    /// The most memory that it has had, in MiB.
    #[cfg(target_os = "linux")]
    fn peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
    }
}

impl Drop for Logger {
    /// As when the power fails.
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// When the readings were made that the server has.
fn times(server: &TestServer, dir: &Path) -> Vec<i64> {
    let remote = HttpRemote::builder(server.url()).token(server.token("ada")).build().unwrap();
    let office = SyncEngine::open(dir.join("office.sqlite"), remote).unwrap();
    let office = office.table("readings").start_blocking().unwrap();
    office.sync_all().unwrap();
    let times = "SELECT data ->> 'at' AS at FROM readings ORDER BY at";
    let rows: Vec<dynos_sync::Fields> = office.query(times, ()).unwrap();
    office.close();
    rows.iter().map(|row| row["at"].as_i64().unwrap()).collect()
}

#[test]
fn a_month_of_readings_arrives_once_and_whole() {
    let (mut server, dir) = (TestServer::start(), tempfile::tempdir().unwrap());
    let database = dir.path().join("readings.sqlite");
    server.stop();
    let logger = Logger::start(&database, &server, &["--simulate-days", "30"]);
    logger.until_says(&format!("in the present, after {MONTH_OF_MINUTES} readings"));
    drop(logger);

    let logger = Logger::start(&database, &server, &[]);
    logger.until_says("offline");
    server.restart();
    logger.until_says("online");
    let times = until(
        || Some(times(&server, dir.path())).filter(|times| times.len() > MONTH_OF_MINUTES),
        || "all readings".to_owned(),
    );
    assert_eq!(times.iter().collect::<BTreeSet<_>>().len(), times.len(), "each once");
    let month = &times[..MONTH_OF_MINUTES];
    assert!(month.windows(2).all(|pair| pair[1] - pair[0] == MINUTE), "none is missing");
    #[cfg(target_os = "linux")]
    assert!(logger.peak() < 48, "it took {} MiB", logger.peak());
}
