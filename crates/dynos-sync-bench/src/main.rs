//! What becomes of the figures of `dynos bench --json`: the page and the plot of `docs/performance.md`, and a guard.
//!
//! ```sh
//! dynos bench --json > figures.json
//! dynos-sync-bench page  figures.json docs/performance.md     # puts the table between the page's marks, and the plot beside it
//! dynos-sync-bench guard figures.json                         # fails where a ratio is lower than it may be
//! ```

mod figures;
mod guard;
mod page;
mod plot;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::figures::Figures;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Puts the table into a page, and the plot beside it.
    Page {
        /// What `dynos bench --json` printed; of several, a later one's workloads take the place of an earlier one's.
        #[arg(required = true)]
        figures: Vec<PathBuf>,
        /// The page.
        #[arg(long)]
        into: PathBuf,
    },
    /// Fails where a ratio is lower than it may be.
    Guard {
        /// What `dynos bench --json` printed.
        figures: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("error: {problem}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Page { figures, into } => {
            let all: Vec<Figures> =
                figures.iter().map(|file| Figures::read(file)).collect::<Result<_, _>>()?;
            page::write(&Figures::merge(all).ok_or("no figures")?, into)
        }
        Command::Guard { figures } => guard::check(&Figures::read(figures)?),
    }
}
