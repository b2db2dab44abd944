//! `dynos bench`: how fast this machine is with the engine, beside how fast it is without.
//!
//! Each measurement is a process of its own, so that its memory is its own; the limit and the engine take turns, so that what else the
//! machine does meets both; of all runs the median counts.

mod cloning;
mod crowd;
mod device;
mod limit;
mod limit_server;
mod live;
mod postgres;
mod process;
mod pulling;
mod pushing;
mod record;
mod sample;
mod steady;
mod table;
mod workload;
mod writing;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use dynos_sync::core::Fields;

pub(crate) use self::{
    limit_server::run as serve_limit,
    record::Shape,
    workload::{Side, Workload},
};
use self::{
    sample::Sample,
    table::{Measured, Results},
};
use crate::{
    cli::{BenchArgs, BenchOneArgs},
    error::{Code, Failure},
    output::Output,
};

/// What is measured: how many rows of which kind, and where the files are.
pub(super) struct Case {
    rows: u64,
    shape: Shape,
    dir: PathBuf,
}

impl Case {
    fn records(&self) -> impl Iterator<Item = (String, Fields)> + use<> {
        let shape = self.shape;
        (0..self.rows).map(move |n| shape.record(n))
    }

    /// The same, of another size.
    fn of(&self, rows: u64) -> Self {
        Self { rows, shape: self.shape, dir: self.dir.clone() }
    }

    /// A place for a new database.
    fn fresh(&self) -> Result<PathBuf, Failure> {
        Ok(self.fresh_dir("device")?.join("device.sqlite"))
    }

    /// An empty directory.
    fn fresh_dir(&self, name: &str) -> Result<PathBuf, Failure> {
        let dir = self.dir.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

/// Measures what was asked for.
pub(crate) fn run(args: &BenchArgs, output: &Output) -> Result<(), Failure> {
    let chosen = workload::choose(&args.workloads);
    let made;
    let dir = match &args.dir {
        Some(dir) => dir.as_path(),
        None => {
            made = tempfile::tempdir()?;
            made.path()
        }
    };
    let mut results = Results::new(args.shape, args.runs);
    output.say(table::HEADING)?;
    for workload in chosen {
        let measured = measure(workload, args, dir)?;
        output.say(&measured)?;
        results.push(measured);
    }
    if output.is_json() { output.result(&results.document(), "") } else { Ok(()) }
}

fn measure(workload: Workload, args: &BenchArgs, dir: &Path) -> Result<Measured, Failure> {
    let rows = args.rows.unwrap_or(workload.rows());
    let one = |side: Side| one(workload, side, rows, args, dir);
    one(Side::SetUp)?;
    let mut measured = Measured::new(workload, rows);
    for _ in 0..workload.runs(args.runs) {
        measured.limit.extend(one(Side::Limit)?);
        measured.ours.extend(one(Side::Ours)?);
    }
    Ok(measured)
}

/// One side, once, in a process of its own.
fn one(
    workload: Workload,
    side: Side,
    rows: u64,
    args: &BenchArgs,
    dir: &Path,
) -> Result<Option<Sample>, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bench-one").arg(workload.name()).arg(side.name());
    command.args(["--rows", &rows.to_string(), "--shape", &args.shape.name(), "--dir"]).arg(dir);
    let ended = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !ended.status.success() {
        return Err(failed(&format_args!("{workload} did not succeed")));
    }
    serde_json::from_slice(&ended.stdout).map_err(|error| failed(&error))
}

/// The process of one measurement: prints the sample.
pub(crate) async fn run_one(args: &BenchOneArgs, output: &Output) -> Result<(), Failure> {
    let case = Case { rows: args.rows, shape: args.shape, dir: args.dir.clone() };
    let sample = args.workload.run(args.side, &case).await?;
    let text = serde_json::to_string(&sample).map_err(|error| failed(&error))?;
    output.result(&serde_json::json!(sample), text)
}

fn failed(error: &impl std::fmt::Display) -> Failure {
    Failure::new(Code::Failed, error.to_string())
}
