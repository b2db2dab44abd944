//! Short runs: one that finds nothing, and one that has something to find.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

fn fire(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_dynos-sync-fire"));
    let mut command = Command::new(program);
    // Where all of the workspace is tested, the command is there, and is not built again with other features.
    let dynos = program.with_file_name(format!("dynos{}", std::env::consts::EXE_SUFFIX));
    if dynos.exists() {
        command.arg("--dynos").arg(dynos);
    }
    command.args(arguments);
    command
}

#[test]
fn nothing_is_lost_whatever_is_killed() {
    let ran = fire(&["--cycles", "24", "--check-every", "12", "--seed", "7"]);
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("24 cycles, ") && last.ends_with(" kills, 0 violations"), "{said}");
    assert!(said.contains("checks: 2,"), "{said}");
    for figure in ["killed: ", "faults: ", "written: "] {
        let line = said.lines().find(|line| line.starts_with(figure)).unwrap_or_default();
        assert!(line.chars().any(|c| ('1'..='9').contains(&c)), "nothing was {figure}{said}");
    }
}

/// A row disappears from one device behind the engine's back: the run says so, fails, and keeps what it has.
#[test]
fn what_is_lost_is_found() {
    let home = tempfile::tempdir().unwrap();
    let mut running =
        command(&["--cycles", "100000", "--check-every", "4", "--agree-within", "5", "--seed", "8"])
            .env("TMPDIR", home.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let start = Instant::now();
    while running.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(120) {
            running.kill().unwrap();
        }
        // Written rows are looked for again and again: the one that was lost may be overtaken by a later write.
        let _ = lose_a_row(home.path());
        thread::sleep(Duration::from_millis(200));
    }
    let ran = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(!ran.status.success() && said.contains("VIOLATION: ") && said.contains("differ"), "{said}");
    assert!(
        said.contains("kept in ") && said.contains("--seed 8") && said.ends_with(" 1 violations\n"),
        "{said}"
    );
    assert!(database(home.path()).is_some(), "the databases are kept");
}

/// The run's first device.
fn database(home: &Path) -> Option<PathBuf> {
    let run = std::fs::read_dir(home).ok()?.next()?.ok()?;
    Some(run.path().join("device0.db")).filter(|path| path.exists())
}

fn lose_a_row(home: &Path) -> Option<()> {
    let db = rusqlite::Connection::open(database(home)?).ok()?;
    db.busy_timeout(Duration::from_secs(5)).ok()?;
    // The engine's own triggers are silent while it writes itself.
    let lose = "BEGIN IMMEDIATE; UPDATE dynos_state SET capture = 0; DELETE FROM own WHERE id LIKE '1-%';
                UPDATE dynos_state SET capture = 1; COMMIT";
    db.execute_batch(lose).ok()
}
