//! A Supabase project of one's own, without authentication of its own.

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{Supabase, shared::variable};

const GATEWAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/testbed/gateway.mjs");
const PATIENCE: Duration = Duration::from_secs(30);

static STARTED: AtomicU32 = AtomicU32::new(0);

/// PostgREST and the gateway before a database that belongs to one test. Its keys are those of the shared project,
/// and nobody can sign up. Both processes end with this value, or with the test's thread if that is killed.
#[derive(Debug)]
pub struct Project {
    dir: PathBuf,
    rest: Option<Child>,
    rest_port: u16,
    gateway: Child,
    url: String,
}

impl Project {
    /// Starts both before the database at a URL, and waits until they answer. It needs the roles of the shared server.
    ///
    /// # Panics
    /// Where they cannot be started.
    #[must_use]
    pub fn start(database: &str) -> Self {
        let supabase = Supabase::shared();
        let name = format!("dynos-{}-{}", process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let dir = env::temp_dir().join(name);
        fs::create_dir(&dir).expect("a directory of its own");
        let rest_port = free_port();
        let mut command = tied(&variable("DYNOS_TEST_NODE"));
        command.current_dir(&dir).args([GATEWAY, &rest_port.to_string(), "1", "port"]);
        command.env("API_KEYS", format!("{} {}", supabase.anon_key, supabase.service_key));
        let gateway = command.spawn().expect("the gateway can be run");
        let mut project = Self { dir, rest: None, rest_port, gateway, url: String::new() };
        let port = await_some("the gateway", || {
            fs::read_to_string(project.dir.join("port")).ok().filter(|port| !port.is_empty())
        });
        project.url = format!("http://127.0.0.1:{port}");
        project.start_rest(database);
        project
    }

    /// The project's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends PostgREST, and with it every connection to the database.
    pub fn stop_rest(&mut self) {
        if let Some(rest) = self.rest.take() {
            end(rest);
        }
    }

    /// Starts PostgREST again.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start_rest(&mut self, database: &str) {
        let mut command = tied(&variable("DYNOS_TEST_POSTGREST"));
        command
            .current_dir(&self.dir)
            .env("PGRST_DB_URI", database)
            .env("PGRST_DB_SCHEMAS", "public")
            .env("PGRST_DB_ANON_ROLE", "anon")
            .env("PGRST_DB_MAX_ROWS", "1000")
            .env("PGRST_DB_POOL", "4")
            .env("PGRST_JWT_SECRET", Supabase::shared().jwt_secret)
            .env("PGRST_SERVER_HOST", "127.0.0.1")
            .env("PGRST_SERVER_PORT", self.rest_port.to_string());
        self.rest = Some(command.spawn().expect("PostgREST can be run"));
        await_some("PostgREST", || self.answers().then_some(()));
    }

    fn answers(&self) -> bool {
        let Supabase { service_key, .. } = Supabase::shared();
        let ask = || -> std::io::Result<bool> {
            let mut socket = TcpStream::connect(self.url.trim_start_matches("http://"))?;
            write!(socket, "GET /rest/v1/ HTTP/1.0\r\napikey: {service_key}\r\n\r\n")?;
            let mut answer = [0; 12];
            socket.read_exact(&mut answer).map(|()| answer.ends_with(b" 200"))
        };
        ask().unwrap_or(false)
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.stop_rest();
        let _ = self.gateway.kill();
        let _ = self.gateway.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A command that the system ends with the thread that starts it.
fn tied(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    listener.local_addr().expect("it is bound").port()
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn await_some<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} does not answer");
        thread::sleep(Duration::from_millis(10));
    }
}
