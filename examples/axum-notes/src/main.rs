//! Notes in the browser and on devices: one process, one port, with the sync server inside.

mod note;
mod web;

use std::{
    error::Error,
    fs,
    io::{Write, stdout},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::Parser;
use dynos_sync::{Record, SyncEngine, remote::HttpRemote};
use dynos_sync_server::{
    Config, Server,
    config::{Auth, Secret},
    mint,
};
use tokio::{net::TcpListener, sync::oneshot};

use crate::note::Note;

/// Notes in the browser and on devices: one process, one port.
#[derive(Parser)]
struct Args {
    /// A directory for the server's database, and the web pages'.
    #[arg(long, default_value = "notes-data")]
    data: PathBuf,
    /// A file with the secret that signs tokens, at least 32 bytes long.
    #[arg(long, default_value = "notes-secret")]
    secret_file: PathBuf,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let secret = Secret::new(fs::read_to_string(&args.secret_file)?.trim());
    fs::create_dir_all(&args.data)?;
    let mut config = Config::new(args.data.join("sync.db"), Auth::Secret(secret.clone()));
    // One table of notes for all users, the web pages among them.
    config.shared_tables.insert(Note::TABLE.parse()?);
    let server = Server::open(config)?;
    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    let notes = web_device(&args.data, address, &secret).await?;
    writeln!(stdout(), "listening on http://{address}")?;
    serve(listener, server, notes).await
}

/// The web pages read and write a database of their own, as any other device does: it is theirs to query, and the form does not
/// wait for anybody.
async fn web_device(data: &Path, server: SocketAddr, secret: &Secret) -> Result<SyncEngine, Box<dyn Error>> {
    const LONGER_THAN_THE_PROCESS_LIVES: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
    let token = mint(secret, "web", LONGER_THAN_THE_PROCESS_LIVES, now.try_into()?)?;
    let remote = HttpRemote::builder(format!("http://{server}/sync")).token(token).build()?;
    Ok(SyncEngine::open(data.join("web.sqlite"), remote)?.record::<Note>().start().await?)
}

/// Serves pages and devices until Ctrl-C.
async fn serve(listener: TcpListener, server: Server, notes: SyncEngine) -> Result<(), Box<dyn Error>> {
    let app = web::router(notes.table()).nest("/sync", server.router());
    let (closed, was_closed) = oneshot::channel();
    let closing = server.clone();
    let stopped = async move {
        if tokio::signal::ctrl_c().await.is_err() {
            // Nobody can stop it that way.
            std::future::pending::<()>().await;
        }
        notes.close().await;
        // This ends the devices' streams of events, which would else be waited for.
        let _ = closed.send(closing.close().await);
    };
    tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(stopped) => served?,
        () = server.tend() => {}
    }
    Ok(was_closed.await??)
}
