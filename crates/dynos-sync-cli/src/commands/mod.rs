//! The commands, one a file.

mod bench;
mod clone;
mod conflicts;
mod dead_letters;
mod demo;
mod demo_crash;
mod doctor;
mod import_dart;
mod queue;
mod serve;
mod status;
mod supabase;
mod sync;
mod token;
mod track;
mod untrack;
mod watch;

pub(crate) use self::bench::{Shape, Side, Workload};

use tokio::runtime::{Builder, Runtime};

use crate::{
    cli::{Cli, Command},
    error::{Code, Failure},
    output::Output,
};

/// Runs a command to its end.
pub(crate) fn run(cli: &Cli, output: &Output) -> Result<(), Failure> {
    match &cli.command {
        Command::Serve(args) => runtime(Builder::new_multi_thread())?.block_on(serve::run(args, output)),
        Command::Demo => runtime(Builder::new_multi_thread())?.block_on(demo::run(output)),
        Command::Bench(args) => bench::run(args, output),
        Command::BenchOne(args) => {
            runtime(Builder::new_multi_thread())?.block_on(bench::run_one(args, output))
        }
        Command::BenchLimit(args) => {
            runtime(Builder::new_multi_thread())?.block_on(bench::serve_limit(&args.kind, &args.dir, output))
        }
        Command::Doctor(args) => doctor::run(args, output),
        Command::Token(args) => token::run(args, output),
        Command::Supabase(args) => supabase::run(args, output),
        other => runtime(Builder::new_current_thread())?.block_on(on_a_device(other, output)),
    }
}

async fn on_a_device(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Track(args) => track::run(args, output).await,
        Command::ImportDart(args) => import_dart::run(args, output).await,
        Command::Untrack(args) => untrack::run(args, output).await,
        Command::Clone(args) => clone::run(args, output).await,
        Command::Sync(args) if args.watch => watch::run(args, output).await,
        Command::Sync(args) => sync::run(args, output).await,
        Command::Status(args) => status::run(args, output).await,
        Command::Queue(args) => queue::run(args, output).await,
        Command::DeadLetters(args) => dead_letters::run(args, output).await,
        Command::Conflicts(args) => conflicts::run(args, output).await,
        Command::DemoCrash(args) => demo_crash::run(args).await,
        Command::Serve(_)
        | Command::Doctor(_)
        | Command::Token(_)
        | Command::Supabase(_)
        | Command::Demo
        | Command::Bench(_)
        | Command::BenchOne(_)
        | Command::BenchLimit(_) => {
            unreachable!("BUG: these run without a device")
        }
    }
}

fn runtime(mut builder: Builder) -> Result<Runtime, Failure> {
    builder.enable_all().build().map_err(|error| Failure::new(Code::Failed, format!("no threads: {error}")))
}
