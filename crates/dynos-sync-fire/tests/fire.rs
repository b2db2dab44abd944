//! A short run.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::{
    path::Path,
    process::{Command, Output},
};

fn fire(arguments: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_dynos-sync-fire"));
    let mut command = Command::new(program);
    // Where all of the workspace is tested, the command is there, and is not built again with other features.
    let dynos = program.with_file_name(format!("dynos{}", std::env::consts::EXE_SUFFIX));
    if dynos.exists() {
        command.arg("--dynos").arg(dynos);
    }
    command.args(arguments).output().unwrap()
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
