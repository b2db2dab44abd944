//! The command: runs seeds, and says what came of them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

use std::{
    process::ExitCode,
    sync::Mutex,
    time::{Duration, Instant},
};

use clap::Parser;
use dynos_sync_core::sabotage::Mutant;
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
    /// A defect by its name, or `all`: prints after how many seeds it is found. For a build with `--features sabotage`.
    #[arg(long)]
    sabotage: Option<String>,
    /// This seed only, with everything that happens.
    #[arg(long)]
    seed: Option<u64>,
    /// With `--seed`: as small as it can be made.
    #[arg(long)]
    shrink: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match (&cli.sabotage, cli.seed) {
        (Some(name), None) => sabotage(name, &cli),
        (name, Some(seed)) => named(name.as_deref()).and_then(|mutants| {
            turn_on(mutants.first().copied())?;
            replay(seed, cli.shrink)
        }),
        (None, None) => run(&cli),
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

/// The defects of a name.
fn named(name: Option<&str>) -> std::io::Result<Vec<Mutant>> {
    let Some(name) = name else { return Ok(Vec::new()) };
    let found: Vec<Mutant> =
        Mutant::ALL.iter().copied().filter(|mutant| name == "all" || mutant.name() == name).collect();
    if found.is_empty() {
        let names: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        return Err(std::io::Error::other(format!(
            "no defect is called {name}; there are {}",
            names.join(", ")
        )));
    }
    Ok(found)
}

#[cfg(feature = "sabotage")]
#[allow(clippy::unnecessary_wraps, reason = "without the feature it fails")]
fn turn_on(mutant: Option<Mutant>) -> std::io::Result<()> {
    dynos_sync_core::sabotage::set(mutant);
    Ok(())
}

#[cfg(not(feature = "sabotage"))]
fn turn_on(mutant: Option<Mutant>) -> std::io::Result<()> {
    match mutant {
        None => Ok(()),
        Some(_) => Err(std::io::Error::other("build it with --features sabotage")),
    }
}

/// Turns each defect on, and prints after how many seeds it is found.
fn sabotage(name: &str, cli: &Cli) -> std::io::Result<bool> {
    let (mut missed, mut needed) = (0, Vec::new());
    let mutants = named(Some(name))?;
    for mutant in &mutants {
        turn_on(Some(*mutant))?;
        let results = Campaign { twice: 0, stop: true, ..cli.campaign() }.run(|_, _, _| ())?;
        match results.failed.first() {
            Some((seed, report)) => {
                let seeds = seed - cli.from + 1;
                needed.push(seeds);
                let checker = report.violations[0].checker;
                println!(
                    "{:<24} found with {seeds:>5} seeds: {checker:<16} {}",
                    mutant.name(),
                    mutant.effect()
                );
            }
            None => {
                missed += 1;
                println!("{:<24} MISSED in {:>4} seeds: {}", mutant.name(), results.seeds, mutant.effect());
            }
        }
    }
    turn_on(None)?;
    needed.sort_unstable();
    let median = needed.get(needed.len() / 2).copied().unwrap_or(0);
    println!("{} defects, {} found, median {median} seeds", mutants.len(), needed.len());
    Ok(missed == 0)
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

impl Cli {
    fn campaign(&self) -> Campaign {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Campaign {
            from: self.from,
            seeds: self.seeds,
            time: self.minutes.map(|minutes| Duration::from_secs(60 * minutes)),
            threads: self.threads.unwrap_or(cores),
            twice: self.twice,
            stop: false,
        }
    }
}

fn run(cli: &Cli) -> std::io::Result<bool> {
    let campaign = cli.campaign();
    let (start, last) = (Instant::now(), Mutex::new(Instant::now()));
    let results = campaign.run(|seeds, failed, failing| {
        if let Some((seed, report)) = failing {
            let violation = &report.violations[0];
            eprintln!("seed {seed} failed: {}: {}", violation.checker, violation.found);
        }
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
