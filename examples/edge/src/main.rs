//! A sensor logger that writes down what it reads, whether or not there is a network, for weeks.

mod clock;
mod reading;

use std::{
    error::Error,
    io::{Write, stdout},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use dynos_sync::{
    ConnectionState, Record, Status, SyncEngine, SyncError, blocking, core::Clock, remote::HttpRemote,
};

use crate::{clock::LateClock, reading::Reading};

/// A sensor logger that is offline for weeks.
#[derive(Parser)]
struct Args {
    /// Where the readings are kept. It is made where it is missing.
    #[arg(long, default_value = "readings.sqlite")]
    db: PathBuf,
    /// The server's address.
    #[arg(long, env = "DYNOS_REMOTE", default_value = "http://127.0.0.1:7171")]
    server: String,
    /// The device's token: `dynos token --user NAME` makes one.
    #[arg(long, env = "DYNOS_TOKEN", hide_env_values = true)]
    token: String,
    /// Seconds from one reading to the next.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// The longest pause between two attempts to reach the server, in seconds.
    #[arg(long, default_value_t = 60)]
    retry: u32,
    /// Begins so many days ago, and lives through them at once.
    #[arg(long, default_value_t = 0)]
    simulate_days: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let clock = Arc::new(LateClock::new(days(args.simulate_days)));
    let engine = open(&args, Arc::clone(&clock))?;
    engine.on_status(tell_of_the_network())?.forever();
    log(&engine.table(), &clock, Duration::from_secs(args.every.into()))
}

fn open(args: &Args, clock: Arc<LateClock>) -> Result<blocking::SyncEngine, Box<dyn Error>> {
    let server = HttpRemote::builder(&args.server).token(args.token.as_str()).build()?;
    let builder = SyncEngine::open(&args.db, server)?.push_only_table(Reading::TABLE).clock(clock);
    let retry = Duration::from_secs(args.retry.into());
    Ok(builder.configure(|config| config.max_backoff = retry).start_blocking()?)
}

/// Reads and writes down, for ever. A write is in the database when it returns; it knows no network.
fn log(
    readings: &blocking::Table<Reading>,
    clock: &LateClock,
    every: Duration,
) -> Result<(), Box<dyn Error>> {
    let mut written = 0_u64;
    loop {
        readings.put(&reading::read(clock.now()))?;
        written += 1;
        let was_late = clock.is_late();
        clock.wait(every);
        if was_late && !clock.is_late() {
            writeln!(stdout(), "in the present, after {written} readings")?;
        }
    }
}

/// A line whenever the network comes or goes.
fn tell_of_the_network() -> impl FnMut(Result<Status, SyncError>) {
    let mut told = ConnectionState::Unknown;
    move |status| {
        let Ok(Status { connection, pending, .. }) = status else { return };
        if connection != ConnectionState::Unknown && connection != told {
            told = connection;
            // Where nobody reads, nobody is told.
            let _ = writeln!(stdout(), "{connection}, {pending} readings wait");
        }
    }
}

fn days(days: u32) -> Duration {
    Duration::from_secs(24 * 60 * 60) * days
}
