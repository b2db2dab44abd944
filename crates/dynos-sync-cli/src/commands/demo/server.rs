//! The demo's server.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use dynos_sync::remote::HttpRemote;
use dynos_sync_server::{
    Config, Server,
    config::{Auth, Secret},
    mint,
    store::StoreError,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    error::{Code, Failure},
    time,
};

/// A server that can be stopped and started again, on another port.
pub(super) struct DemoServer {
    database: PathBuf,
    secret: Secret,
    token: String,
    url: String,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StoreError>>,
}

impl DemoServer {
    pub(super) async fn start(dir: &Path) -> Result<Self, Failure> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| failed(&error))?;
        let secret = Secret::new(&bytes.map(|byte| format!("{byte:02x}")).concat());
        let token =
            mint(&secret, "demo", Duration::from_secs(3600), time::now()).map_err(|error| failed(&error))?;
        let database = dir.join("server.db");
        let mut server = Self { database, secret, token, url: String::new(), running: None };
        server.restart().await?;
        Ok(server)
    }

    pub(super) async fn restart(&mut self) -> Result<(), Failure> {
        let config = Config::new(&self.database, Auth::Secret(self.secret.clone()));
        let server = Server::open(config).map_err(|error| failed(&error))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        self.url = format!("http://{}", listener.local_addr()?);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            // A sender that was dropped means the same.
            let _ = stopped.await;
        };
        let task = tokio::spawn(async move { server.serve(listener, shutdown).await });
        self.running = Some(Running { stop, task });
        Ok(())
    }

    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        let Some(Running { stop, task }) = self.running.take() else { return Ok(()) };
        // An error says that it has ended already.
        let _ = stop.send(());
        task.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn remote(&self) -> Result<HttpRemote, Failure> {
        Ok(HttpRemote::builder(&self.url).token(self.token.as_str()).build()?)
    }
}

fn failed(error: &impl std::fmt::Display) -> Failure {
    Failure::new(Code::Failed, error.to_string())
}
