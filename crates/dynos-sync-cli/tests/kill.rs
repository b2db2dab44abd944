//! SIGKILL of a sync, of the server and of a program that writes, at random moments: every acknowledged change is there in
//! the end, once, and no file is damaged.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use support::{Guard, Lines, Server, World, assert_equal, number, open, sql, text};

/// Names the database for [`the_program_that_writes`], which does nothing without it.
const DATABASE: &str = "DYNOS_TEST_DATABASE";

const SCHEMA: &str = "CREATE TABLE item (id TEXT PRIMARY KEY, n INTEGER, note TEXT);
                      CREATE TABLE total (id INTEGER PRIMARY KEY, n INTEGER);
                      INSERT INTO total VALUES (1, 0)";

/// Not a test of its own: run as a child process, it writes until it is killed, and says what was committed.
#[test]
fn the_program_that_writes() {
    let Some(path) = env::var_os(DATABASE) else { return };
    let mut db = open(Path::new(&path));
    let mut out = std::io::stdout();
    loop {
        let change = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        let n: i64 =
            change.query_row("UPDATE total SET n = n + 1 RETURNING n", [], |row| row.get(0)).unwrap();
        change
            .execute("INSERT INTO item VALUES (?1, ?2, NULL)", rusqlite::params![format!("i{n}"), n])
            .unwrap();
        change.execute("UPDATE item SET note = 'seen by ' || ?1 WHERE n = ?1 - 3", [n]).unwrap();
        change.execute("DELETE FROM item WHERE n % 5 = 0 AND n < ?1 - 10", [n]).unwrap();
        change.commit().unwrap();
        writeln!(out, "committed {n}").unwrap();
        out.flush().unwrap();
        thread::sleep(Duration::from_millis(2));
    }
}

struct Writer {
    _process: Guard,
    lines: Lines,
}

impl Writer {
    fn start(database: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["the_program_that_writes", "--exact", "--nocapture"]).env(DATABASE, database);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = Lines::follow(child.stdout.take().unwrap());
        Self { _process: Guard(child), lines }
    }

    /// The last change that it said was committed.
    fn acknowledged(&self) -> i64 {
        let last = |line: &String| line.strip_prefix("committed ")?.parse().ok();
        self.lines.all().iter().rev().find_map(last).unwrap_or(0)
    }
}

/// A small generator (xorshift64): the moments differ from run to run with the machine's timing in any case.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

struct Scene {
    world: World,
    address: String,
    device: PathBuf,
    writer: Writer,
    random: Random,
    acknowledged: i64,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let address = world.server.address().to_owned();
        let device = world.tracked("a.sqlite", SCHEMA);
        let writer = Writer::start(&device);
        Self { world, address, device, writer, random: Random(0x9E37_79B9_7F4A_7C15), acknowledged: 0 }
    }

    fn sync(&self) -> Guard {
        let mut command = self.world.dynos();
        command.arg("sync").arg(&self.device).args(["--retries", "0"]);
        Guard(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Kills one of the three in the midst of a sync.
    fn cycle(&mut self) {
        let sync = self.sync();
        thread::sleep(Duration::from_micros(self.random.below(60_000)));
        match self.random.below(3) {
            0 => drop(sync),
            1 => {
                self.restart_server();
                drop(sync);
            }
            _ => {
                self.acknowledged = self.acknowledged.max(self.writer.acknowledged());
                self.writer = Writer::start(&self.device);
                drop(sync);
            }
        }
    }

    fn restart_server(&mut self) {
        let data = self.world.server.data.clone();
        drop(self.world.server.guard.0.kill());
        drop(self.world.server.guard.0.wait());
        self.world.server = Server::start_with(&data, &self.address, &[]);
    }
}

#[test]
fn whatever_is_killed_every_acknowledged_change_arrives_once() {
    let cycles = env::var("DYNOS_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(200);
    let mut scene = Scene::new();
    for _ in 0..cycles {
        scene.cycle();
    }
    let Scene { world, device, writer, acknowledged, .. } = scene;
    support::wait_for("the last program has written", || writer.acknowledged() > 0);
    let acknowledged = acknowledged.max(writer.acknowledged());
    drop(writer);

    world.sync(&device).ok();
    let other = world.cloned("b.sqlite");
    assert_equal(&device, &other);
    let total = number(&other, "SELECT n FROM total");
    assert!(total >= acknowledged, "{total} changes arrived, {acknowledged} were acknowledged");
    let expected = format!("SELECT count(*) FROM item WHERE n <= {total}");
    let deleted = (1..=total).filter(|n| n % 5 == 0 && *n < total - 10).count() as i64;
    assert_eq!(number(&other, &expected), total - deleted, "each row is there, once");
    let server = world.server.data.join("dynos.db");
    let server = if server.exists() { server } else { database_in(&world.server.data) };
    for file in [&device, &other, &server] {
        assert_eq!(text(file, "PRAGMA integrity_check"), "ok", "{}", file.display());
    }
    assert_eq!(number(&device, "SELECT count(*) FROM dynos_dead"), 0);
}

fn database_in(data: &Path) -> PathBuf {
    let is_database = |path: &PathBuf| {
        let mut first = [0; 15];
        let read =
            std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut first));
        read.is_ok() && &first == b"SQLite format 3"
    };
    let files = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(is_database).expect("the server has a database")
}

#[test]
fn a_program_and_two_syncs_use_one_database_at_once() {
    let world = World::new();
    let device = world.tracked("a.sqlite", SCHEMA);
    let other = world.cloned("b.sqlite");
    let watch = |device: &Path| {
        let mut command = world.dynos();
        command.arg("sync").arg(device).arg("--watch").stdout(Stdio::null()).stderr(Stdio::null());
        Guard(command.spawn().unwrap())
    };
    let watching = [watch(&device), watch(&other)];
    let writers = [Writer::start(&device), Writer::start(&device)];
    for round in 0..10 {
        sql(&other, &format!("INSERT INTO item VALUES ('other{round}', NULL, 'there')"));
        // Beside the one that watches; the programs write on, so something may be pending again at its end.
        for database in [&device, &other] {
            let ran = world.sync(database);
            assert!([0, 3].contains(&ran.code), "{ran:?}");
        }
    }
    support::wait_for("both programs have written", || {
        writers.iter().all(|writer| writer.acknowledged() > 20)
    });
    let acknowledged = writers.iter().map(Writer::acknowledged).max().unwrap();
    drop(writers);
    drop(watching);
    for _ in 0..2 {
        world.sync(&device).ok();
        world.sync(&other).ok();
    }
    assert_equal(&device, &other);
    assert_equal(&device, &world.cloned("c.sqlite"));
    assert!(number(&other, "SELECT n FROM total") >= acknowledged);
    assert_eq!(number(&other, "SELECT count(*) FROM item WHERE id LIKE 'other%'"), 10);
    assert_eq!(number(&device, "SELECT count(*) FROM dynos_dead"), 0);
    assert_eq!(
        number(&device, "SELECT count(*) FROM dynos_conflict"),
        0,
        "nobody changed what another had changed"
    );
}
