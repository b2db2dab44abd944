//! Logging, on stderr.

use std::io;

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::cli::{Cli, Command, LogFormat};

/// Starts logging: warnings, more with `-v` and `-vv`, or what `RUST_LOG` says.
pub(crate) fn start(cli: &Cli) {
    let format = match &cli.command {
        Command::Serve(serve) => serve.log,
        _ => None,
    };
    let verbosity = cli.verbose.max(u8::from(format.is_some()));
    let default = match verbosity {
        // Failures are JSON on stderr then: nothing is to be mixed in that nobody asked for.
        0 if cli.json => "off",
        0 => "warn",
        1 => {
            "warn,dynos=info,dynos_sync=info,dynos_sync_core=info,dynos_sync_sqlite=info,dynos_sync_remote=info,dynos_sync_server=info"
        }
        _ => {
            "info,dynos=debug,dynos_sync=debug,dynos_sync_core=debug,dynos_sync_sqlite=debug,dynos_sync_remote=debug,dynos_sync_server=debug"
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        // Where stderr is closed, complaining there would end the program.
        .log_internal_errors(false)
        .with_writer(Stderr);
    // An error says that logging has been started already.
    let _ = match format {
        Some(LogFormat::Json) => builder.json().try_init(),
        _ => builder.try_init(),
    };
}

struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = io::Stderr;

    fn make_writer(&'a self) -> Self::Writer {
        io::stderr()
    }
}
