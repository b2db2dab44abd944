//! `dynos`: sync SQLite databases from the command line, and serve them.

mod cli;
mod commands;
mod config_file;
mod connection;
mod database;
mod error;
mod logging;
mod offline;
mod output;
mod progress;
mod secret;
mod signals;
mod suggest;
mod tally;
mod time;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

use crate::{
    cli::Cli,
    error::{Code, Failure},
    output::Output,
};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let json = arguments
        .iter()
        .skip(1)
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "--json");
    let output = Output::new(json);
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if json && error.use_stderr() => {
            let message = error.to_string();
            let message = message.trim().trim_start_matches("error: ").to_owned();
            return finish(&output, Err(Failure::new(Code::Usage, message).hint("see dynos --help")));
        }
        Err(error) => {
            // Whoever closed the stream does not want to read it.
            let _ = error.print();
            return if error.use_stderr() { Code::Usage.exit() } else { ExitCode::SUCCESS };
        }
    };
    logging::start(&cli);
    finish(&output, commands::run(&cli, &output))
}

fn finish(output: &Output, done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.code().exit()
        }
    }
}
