//! The real command under fire: `dynos serve` and devices that run `dynos sync`, each behind a proxy that does what networks do, while all of them are killed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may panic"))]

mod certificates;
mod check;
mod command;
mod journal;
mod link;
mod part;
mod process;
mod proxy;
mod rows;
mod run;
mod stack;
mod tally;
mod writer;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    link::{Counted, count},
    run::Course,
    stack::{Fault, Recipe, Stack},
};

/// Kills servers, devices and networks, and checks that nothing of what was written is lost, repeated or leaked.
#[derive(Debug, Parser)]
struct Cli {
    /// How many times something is killed and started again.
    #[arg(long, default_value_t = 200)]
    cycles: u64,
    /// No cycle is begun after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Where all that is random comes from. The processes' own timing does not: a run is never quite repeated.
    #[arg(long)]
    seed: Option<u64>,
    /// After how many cycles everything is checked.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    check_every: u64,
    /// How many seconds all may take to agree then. A watcher that has failed often pauses for a minute.
    #[arg(long, default_value_t = 180)]
    agree_within: u64,
    /// What share of requests meets a fate.
    #[arg(long, default_value_t = 0.2)]
    rate: f64,
    /// The server keeps its data in a Postgres of its own, which is killed too.
    #[arg(long)]
    postgres: bool,
    /// The command `dynos`. Built where it is not named.
    #[arg(long)]
    dynos: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<SubPart>,
}

#[derive(Debug, Subcommand)]
enum SubPart {
    /// One device's network. Started by the run itself.
    #[command(hide = true)]
    Proxy(proxy::ProxyArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Fault::from).and_then(|runtime| {
        runtime.block_on(async {
            match cli.part {
                Some(SubPart::Proxy(args)) => Ok(proxy::run(args).await.map(|()| ExitCode::SUCCESS)?),
                None => fire(cli).await,
            }
        })
    });
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

async fn fire(cli: Cli) -> Result<ExitCode, Fault> {
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    println!("seed {seed}");
    let dynos = match &cli.dynos {
        Some(dynos) => dynos.clone(),
        None => command::dynos()?,
    };
    let dir = tempfile::Builder::new().prefix("dynos-fire-").tempdir()?;
    let tally = Counted::default();
    let (start, course) = (Instant::now(), course(&cli));
    let recipe = Recipe { dir: dir.path().to_owned(), dynos, seed, rate: cli.rate, postgres: cli.postgres };
    let played = async {
        let mut stack = Stack::start(recipe, tally.clone()).await?;
        run::run(&mut stack, course).await
    };
    // Whichever way this ends, the stack is dropped, and what it started ends with it.
    let done = tokio::select! {
        done = played => done,
        () = interrupted() => return Ok(ExitCode::from(130)),
    };
    if let Err(found) = &done {
        count(&tally, |tally| tally.violations.push(found.to_string()));
        let again = cli.cycles;
        println!("VIOLATION: {found}\n\nkept in {}", dir.keep().display());
        println!(
            "again: cargo run --release -p dynos-sync-fire -- --cycles {again} --seed {seed} --check-every {} --rate {}{}",
            cli.check_every,
            cli.rate,
            if cli.postgres { " --postgres" } else { "" }
        );
    }
    count(&tally, |tally| println!("{}\n{}", tally.report(start.elapsed()), tally.verdict()));
    Ok(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn course(cli: &Cli) -> Course {
    let until = cli.minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
    let agree_within = Duration::from_secs(cli.agree_within);
    Course { cycles: cli.cycles, check_every: cli.check_every, agree_within, until }
}

/// Until somebody asks this to end.
async fn interrupted() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
