//! A list of tasks that is edited offline, on any number of devices.

mod app;
mod screen;
mod task;

use std::{error::Error, path::PathBuf, time::Duration};

use clap::Parser;
use crossterm::event::EventStream;
use dynos_sync::{Strategy, SyncEngine, remote::HttpRemote};
use futures_util::StreamExt;
use ratatui::DefaultTerminal;

use crate::{app::App, task::Task};

/// A list of tasks that is edited offline, on any number of devices.
#[derive(Parser)]
struct Args {
    /// This device's database. It is made where it is missing.
    #[arg(long, default_value = "todo.sqlite")]
    db: PathBuf,
    /// The server's address.
    #[arg(long, env = "DYNOS_REMOTE", default_value = "http://127.0.0.1:7171")]
    server: String,
    /// Who you are: `dynos token --user NAME` makes one.
    #[arg(long, env = "DYNOS_TOKEN", hide_env_values = true)]
    token: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let engine = open(&Args::parse()).await?;
    let mut terminal = ratatui::try_init()?;
    let outcome = run(&mut terminal, &engine).await;
    ratatui::restore();
    engine.close().await;
    outcome
}

async fn open(args: &Args) -> Result<SyncEngine, Box<dyn Error>> {
    let server = HttpRemote::builder(&args.server).token(args.token.as_str()).build()?;
    let engine = SyncEngine::open(&args.db, server)?.record::<Task>().configure(|config| {
        config.conflict_strategy = Strategy::Merge;
        // Somebody is looking: a server that is back should be seen soon.
        config.max_backoff = Duration::from_secs(2);
    });
    Ok(engine.start().await?)
}

/// Draws, waits for whatever comes first, and draws again.
async fn run(terminal: &mut DefaultTerminal, engine: &SyncEngine) -> Result<(), Box<dyn Error>> {
    let mut app = App::new(engine.clone());
    let mut keys = EventStream::new();
    let mut tasks = engine.table::<Task>().watch("ORDER BY id", ()).await?;
    let mut statuses = engine.watch_status();
    while !app.has_quit() {
        terminal.draw(|frame| screen::draw(frame, &app))?;
        tokio::select! {
            Some(rows) = tasks.next() => app.show_tasks(rows?),
            Some(status) = statuses.next() => app.show_status(status?).await?,
            Some(event) = keys.next() => {
                if let Some(key) = event?.as_key_press_event() {
                    app.press(key.code).await;
                }
            }
            else => break,
        }
    }
    Ok(())
}
