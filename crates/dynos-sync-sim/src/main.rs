//! The command: runs seeds, and says what came of them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

use std::{
    process::ExitCode,
    sync::Mutex,
    time::{Duration, Instant},
};

use clap::Parser;
use dynos_sync_sim::{
    campaign::{self, Campaign, Results},
    shrink::shrink,
    table::{table, too_little},
    world::{self, Options, Report},
};

/// Runs worlds of devices, each from a seed, and checks that nothing is lost, reordered, repeated or leaked.
#[derive(Debug, Parser)]
struct Cli {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// No new seed is begun after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// How many run at once: as many as there are cores, unless said otherwise.
    #[arg(long)]
    threads: Option<usize>,
    /// Every so many-th seed is run twice, and has to come out the same.
    #[arg(long, default_value_t = 20)]
    twice: u64,
    /// This seed only, with everything that happens.
    #[arg(long)]
    seed: Option<u64>,
    /// With `--seed`: as small as it can be made.
    #[arg(long)]
    shrink: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.seed {
        Some(seed) => replay(seed, cli.shrink),
        None => run(&cli),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one seed, and prints everything that happens.
fn replay(seed: u64, small: bool) -> std::io::Result<bool> {
    let runtime = campaign::runtime()?;
    if !small {
        let report = world::run(seed, &runtime, &Options { print: true, ..Options::default() });
        println!("seed {seed}, trace {:016x}", report.hash);
        for violation in &report.violations {
            println!("{}: {}", violation.checker, violation.found);
        }
        return Ok(report.violations.is_empty());
    }
    let report = world::run(seed, &runtime, &Options::default());
    if report.violations.is_empty() {
        println!("seed {seed} does not fail");
        return Ok(true);
    }
    let (options, report) = shrink(seed, &runtime, report);
    show(seed, &report, &options);
    Ok(false)
}

fn show(seed: u64, report: &Report, options: &Options) {
    println!("\nseed {seed} fails. To see it all: cargo run -p dynos-sync-sim -- --seed {seed}");
    if let Some(steps) = options.steps {
        let left = steps as usize - options.without.iter().filter(|step| **step < steps).count();
        println!("It still fails with {left} of its {} steps, shown here.", report.steps);
    }
    for line in report.tail.iter().rev().take(60).rev() {
        println!("{line}");
    }
    for violation in &report.violations {
        println!("{}: {}", violation.checker, violation.found);
    }
}

fn run(cli: &Cli) -> std::io::Result<bool> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let campaign = Campaign {
        from: cli.from,
        seeds: cli.seeds,
        time: cli.minutes.map(|minutes| Duration::from_secs(60 * minutes)),
        threads: cli.threads.unwrap_or(cores),
        twice: cli.twice,
        stop: false,
    };
    let (start, last) = (Instant::now(), Mutex::new(Instant::now()));
    let results = campaign.run(|seeds, failed| {
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.elapsed() > Duration::from_secs(10) {
            *last = Instant::now();
            let rate = seeds as f64 / start.elapsed().as_secs_f64();
            eprintln!("{seeds} of {} seeds, {rate:.1} a second, {failed} failed", cli.seeds);
        }
    })?;
    print!("{}", table(&results));
    let missing = too_little(&results);
    for missing in &missing {
        println!("too little: {missing}");
    }
    shrink_first(&results)?;
    Ok(results.failed.is_empty() && missing.is_empty())
}

fn shrink_first(results: &Results) -> std::io::Result<()> {
    for (seed, report) in &results.failed {
        let violation = &report.violations[0];
        println!("seed {seed} failed: {}: {}", violation.checker, violation.found);
    }
    if let Some((seed, report)) = results.failed.first() {
        let (options, report) = shrink(*seed, &campaign::runtime()?, report.clone());
        show(*seed, &report, &options);
    }
    Ok(())
}
