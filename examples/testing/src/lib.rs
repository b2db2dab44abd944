//! For the examples' tests: a server to stop and to start again, and waiting for what will be so.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use dynos_sync_server::{
    Config, Server,
    config::{Auth, Secret},
    mint,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot, task::JoinHandle};

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "the secret of a server that lives for the length of a test";

/// A sync server on a port of its own. What it keeps outlives a stop, and goes with the value.
pub struct TestServer {
    runtime: Runtime,
    directory: TempDir,
    address: SocketAddr,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    work: JoinHandle<()>,
}

impl TestServer {
    /// A server that runs.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { runtime, directory, address: anywhere, running: None };
        server.restart();
        server
    }

    /// Where it is, also while it is stopped.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A user's token.
    ///
    /// # Panics
    /// Never: the secret is long enough.
    pub fn token(&self, user: &str) -> String {
        mint(&secret(), user, Duration::from_secs(3600), now()).expect("a token")
    }

    /// Ends it, with whatever is connected.
    ///
    /// # Panics
    /// Where it does not end well.
    pub fn stop(&mut self) {
        let Some(Running { stop, work }) = self.running.take() else { return };
        // An error says that it has ended already.
        let _ = stop.send(());
        self.runtime.block_on(work).expect("the server ends well");
    }

    /// Starts it where it was, with what it had.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn restart(&mut self) {
        self.restart_with(|_| {});
    }

    /// Starts it where it was, with what it had, and with another configuration.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn restart_with(&mut self, change: impl FnOnce(&mut Config)) {
        self.stop();
        let mut config = Config::new(self.directory.path().join("sync.db"), Auth::Secret(secret()));
        change(&mut config);
        let listener = self.runtime.block_on(TcpListener::bind(self.address)).expect("a port");
        self.address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let work = self.runtime.spawn(async move {
            let server = Server::open(config).expect("a server");
            // A sender that was dropped means the same.
            let stopped = async { drop(stopped.await) };
            server.serve(listener, stopped).await.expect("a server that closes");
        });
        self.running = Some(Running { stop, work });
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // Also while a test that has failed unwinds: a second panic would hide the first.
        if let Some(Running { stop, work }) = self.running.take() {
            let _ = stop.send(());
            let _ = self.runtime.block_on(work);
        }
    }
}

fn secret() -> Secret {
    Secret::new(SECRET)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Looks again and again until there is something, and answers it.
///
/// # Panics
/// Where there is nothing after 20 seconds, with what `otherwise` says.
pub fn until<T>(mut look: impl FnMut() -> Option<T>, otherwise: impl FnOnce() -> String) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {}", otherwise());
        thread::sleep(Duration::from_millis(10));
    }
}
