//! Servers, devices and databases for the tests: real processes, real sockets, real files.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, types::Value as Cell};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub(crate) fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < DEADLINE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The command, with nothing of the tester's own environment.
pub(crate) fn dynos() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dynos"));
    let own = ["DYNOS_TOKEN", "DYNOS_REMOTE", "DYNOS_DATABASE_URL", "RUST_LOG"];
    let project = ["DYNOS_SUPABASE_URL", "DYNOS_ANON_KEY", "DYNOS_PASSWORD"];
    for name in own.into_iter().chain(project) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// What a command has printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the output is text");
        let code = output.status.code().expect("it ended by itself");
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// The one document on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The failure on stderr, as JSON.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        let document: Value =
            serde_json::from_str(&self.err).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        document["error"].clone()
    }

    /// A failure with that exit code and word, and with a hint.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, word: &str) -> Self {
        let ran = self.code(code);
        let error = ran.error();
        assert_eq!(error["code"], word, "{ran:?}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{ran:?}");
        ran
    }
}

pub(crate) fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    Ran::of(&dynos().args(arguments).output().expect("dynos runs"))
}

/// Ends a process when the test does.
#[derive(Debug)]
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guard {
    /// Asks it to end, and answers its exit code.
    pub(crate) fn terminate(&mut self, signal: &str) -> i32 {
        let kill = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", self.0.id())).status();
        assert!(kill.expect("sh runs").success());
        self.exit()
    }

    pub(crate) fn exit(&mut self) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("it can be waited for") {
                return status.code().expect("it ended by itself");
            }
            assert!(start.elapsed() < DEADLINE, "it does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) guard: Guard,
    pub(crate) url: String,
    pub(crate) data: PathBuf,
}

impl Server {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, "127.0.0.1:0", &[])
    }

    pub(crate) fn start_with(data: &Path, listen: &str, more: &[&str]) -> Self {
        let mut command = dynos();
        command.arg("serve").arg("--data").arg(data).args(["--listen", listen]).args(more);
        // Tests break connections by the hundred: warnings of that would hide what a test itself says.
        command.env("RUST_LOG", "error");
        let mut child = command.stdout(Stdio::piped()).spawn().expect("dynos serve runs");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let guard = Guard(child);
        out.read_line(&mut line).expect("it prints a line");
        let url =
            line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("not an address: {line:?}"));
        Self { guard, url: url.to_owned(), data: data.to_owned() }
    }

    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").expect("an http address")
    }

    pub(crate) fn token(&self, user: &str) -> String {
        let data = self.data.to_str().expect("text");
        run(["token", "--user", user, "--data", data]).ok().out.trim().to_owned()
    }
}

/// A server, and a directory for devices.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) token: String,
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(&dir.path().join("server"));
        let token = server.token("ada");
        Self { server, token, dir }
    }

    /// With the server on a Postgres database.
    pub(crate) fn on_postgres(url: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start_with(&dir.path().join("server"), "127.0.0.1:0", &["--database-url", url]);
        let token = server.token("ada");
        Self { server, token, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command that knows the server and the token from the environment.
    pub(crate) fn dynos(&self) -> Command {
        let mut command = dynos();
        command.env("DYNOS_REMOTE", &self.server.url).env("DYNOS_TOKEN", &self.token);
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(&self.dynos().args(arguments).output().expect("dynos runs"))
    }

    pub(crate) fn on(&self, command: &[&str], database: &Path, more: &[&str]) -> Ran {
        let mut arguments: Vec<&OsStr> = command.iter().map(OsStr::new).collect();
        arguments.push(database.as_os_str());
        arguments.extend(more.iter().map(OsStr::new));
        self.run(arguments)
    }

    pub(crate) fn sync(&self, database: &Path) -> Ran {
        self.on(&["sync", "--json"], database, &[])
    }

    /// A database with `schema`, tracked and synced.
    pub(crate) fn tracked(&self, name: &str, schema: &str) -> PathBuf {
        let path = self.path(name);
        sql(&path, schema);
        self.on(&["track", "--all"], &path, &[]).ok();
        self.sync(&path).ok();
        path
    }

    pub(crate) fn cloned(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        self.on(&["clone"], &path, &[]).ok();
        path
    }
}

/// Runs plain SQL on a connection of its own, as any program would.
pub(crate) fn sql(path: &Path, statements: &str) {
    let db = open(path);
    db.execute_batch(statements).unwrap_or_else(|error| panic!("{error}: {statements}"));
}

pub(crate) fn open(path: &Path) -> Connection {
    let db = Connection::open(path).expect("the database opens");
    db.busy_timeout(Duration::from_secs(10)).expect("a timeout");
    db.pragma_update(None, "foreign_keys", true).expect("foreign keys");
    db
}

pub(crate) fn number(path: &Path, query: &str) -> i64 {
    open(path).query_row(query, [], |row| row.get(0)).expect("a number")
}

pub(crate) fn text(path: &Path, query: &str) -> String {
    open(path).query_row(query, [], |row| row.get(0)).expect("a text")
}

pub(crate) type Dump = BTreeMap<String, Vec<Vec<String>>>;

/// All rows of the application's tables, value for value and type for type.
pub(crate) fn dump(path: &Path) -> Dump {
    let db = open(path);
    let list = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'dynos\\_%' ESCAPE '\\' \
                AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let names: Vec<String> =
        db.prepare(list).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    names.into_iter().map(|name| (name.clone(), rows(&db, &name))).collect()
}

fn rows(db: &Connection, table: &str) -> Vec<Vec<String>> {
    let mut statement = db.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
    let columns = statement.column_count();
    let cell = |cell: Cell| match cell {
        Cell::Real(number) => format!("Real({:016x})", number.to_bits()),
        other => format!("{other:?}"),
    };
    let read = |row: &rusqlite::Row<'_>| (0..columns).map(|i| row.get(i).map(cell)).collect();
    let mut rows: Vec<Vec<String>> = statement.query_map([], read).unwrap().map(Result::unwrap).collect();
    rows.sort();
    rows
}

#[track_caller]
pub(crate) fn assert_equal(one: &Path, other: &Path) {
    assert_eq!(dump(one), dump(other));
}

/// The lines of a process, as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub(crate) fn follow(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let kept = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { return };
                kept.0.lock().unwrap().push(line);
            }
        });
        lines
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn wait_for(&self, what: &str, matches: impl Fn(&str) -> bool) {
        wait_for(what, || self.all().iter().any(|line| matches(line)));
    }
}

/// Whether any file that belongs to a database holds these bytes.
pub(crate) fn holds(database: &Path, needle: &str) -> bool {
    ["", "-wal", "-shm"].iter().any(|suffix| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        let bytes = fs::read(name).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    })
}

#[cfg(unix)]
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("the file is there").permissions().mode() & 0o777
}
