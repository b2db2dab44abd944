//! Runs seeds.
#![allow(clippy::print_stdout, reason = "a command prints")]

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use dynos_sync_sim::world::{self, Options};

/// Runs worlds of devices, each from a seed, and checks that nothing is lost, reordered, repeated or leaked.
#[derive(Debug, Parser)]
struct Cli {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One seed only, with everything that happens.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return ExitCode::FAILURE };
    let runtime = Arc::new(runtime);
    let (from, until) = cli.seed.map_or((cli.from, cli.from + cli.seeds), |seed| (seed, seed + 1));
    let mut bad = 0;
    let start = std::time::Instant::now();
    let mut counts = dynos_sync_sim::tally::Counts::default();
    for seed in from..until {
        let report = world::run(seed, &runtime, &Options { print: cli.seed.is_some(), ..Options::default() });
        counts.add(&report.counts);
        if !report.violations.is_empty() {
            bad += 1;
            println!("seed {seed} ({:x}): {:?}", report.hash, report.violations[0]);
        } else if cli.seed.is_some() {
            println!("seed {seed} ({:x}): well", report.hash);
        }
    }
    println!(
        "{bad} bad of {}, {:.1} seeds/s",
        until - from,
        (until - from) as f64 / start.elapsed().as_secs_f64()
    );
    println!("{:?}", counts.done);
    println!("{:?}", counts.faults);
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
