//! SQLite on these disks: what it promises of real ones has to hold here, and nothing here may be kinder than a real one.
//! `scripts/sanitize` runs them under AddressSanitizer.

use rusqlite::{Connection, ErrorCode};

use super::*;

/// A disk of the test's own.
struct Mounted(Disk);

impl Mounted {
    fn new(name: &str) -> Self {
        Self(Disk::mount(format!("/disk of {name}")))
    }

    /// A connection, at a level of `PRAGMA synchronous`.
    fn open(&self, level: &str) -> Connection {
        let db = Connection::open(self.0.path("db")).unwrap();
        db.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {level}; CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, filler)"
        ))
        .unwrap();
        db
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.0.unmount();
    }
}

fn insert(db: &Connection) -> rusqlite::Result<usize> {
    // More than a page: a commit takes several writes.
    db.execute("INSERT INTO t (filler) VALUES (zeroblob(5000))", [])
}

fn count(db: &Connection) -> i64 {
    db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn checkpoint(db: &Connection) {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

fn assert_intact(db: &Connection) {
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

fn code(error: &rusqlite::Error) -> Option<ErrorCode> {
    error.sqlite_error_code()
}

#[test]
fn two_connections_share_a_database_and_a_kill_loses_nothing_that_was_written() {
    let disk = Mounted::new("two");
    let [one, other] = [(); 2].map(|()| disk.open("NORMAL"));
    for _ in 0..20 {
        insert(&one).unwrap();
        insert(&other).unwrap();
    }
    assert_eq!((count(&one), count(&other)), (40, 40));
    checkpoint(&one);
    assert_eq!(disk.0.read("db-wal").unwrap().len(), 0);
    insert(&other).unwrap();
    assert_eq!(count(&one), 41);
    disk.0.kill();
    let next = disk.open("NORMAL");
    assert_eq!(count(&next), 41);
    assert_intact(&next);
}

#[test]
fn a_reader_keeps_its_snapshot_while_others_write() {
    let disk = Mounted::new("snapshot");
    let [reader, writer] = [(); 2].map(|()| disk.open("NORMAL"));
    insert(&writer).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count(&reader), 1);
    for _ in 0..2000 {
        insert(&writer).unwrap();
    }
    assert_eq!(count(&reader), 1, "beyond the first region of the log's index, too");
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(count(&reader), 2001);
}

#[test]
fn a_loss_of_power_takes_no_commit_at_full_and_breaks_nothing_at_normal() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..200 {
        for level in ["FULL", "NORMAL"] {
            let disk = Mounted::new(&format!("power {seed} {level}"));
            let db = disk.open(level);
            for n in 0..seed % 7 + 3 {
                insert(&db).unwrap();
                if n == seed % 3 {
                    checkpoint(&db);
                }
            }
            let written = count(&db);
            disk.0.lose_power(&mut Loss::new(seed));
            let found = count(&disk.open(level));
            if level == "FULL" {
                assert_eq!(found, written, "seed {seed}");
            } else {
                // What a checkpoint has copied is safe.
                let copied = (seed % 3 + 1).cast_signed();
                assert!((copied..=written).contains(&found), "seed {seed}: {found} of {written}");
                (lost, kept) = (lost + written - found, kept + found);
            }
            assert_intact(&disk.open(level));
        }
    }
    assert!(
        lost > 100 && kept > 100,
        "{lost} commits were lost, {kept} kept: the disk is neither kind nor cruel"
    );
}

#[test]
fn of_a_torn_log_whole_commits_are_read() {
    let disk = Mounted::new("torn");
    let db = disk.open("NORMAL");
    checkpoint(&db);
    for _ in 0..8 {
        insert(&db).unwrap();
    }
    let image = disk.0.image();
    let log = disk.0.read("db-wal").unwrap();
    let mut counts = Vec::new();
    for end in (0..=log.len()).step_by(1000).chain([log.len()]) {
        disk.0.put_back(&image);
        disk.0.write("db-wal", log[..end].to_vec());
        // The log's index was memory: it is gone with those who had it.
        let db = disk.open("NORMAL");
        assert_intact(&db);
        counts.push(count(&db));
    }
    assert!(counts.is_sorted() && counts[0] == 0 && counts.last() == Some(&8), "{counts:?}");
    for place in (0..log.len()).step_by(777) {
        let mut damaged = log.clone();
        damaged[place] ^= 0x10;
        disk.0.put_back(&image);
        disk.0.write("db-wal", damaged);
        let db = disk.open("NORMAL");
        assert_intact(&db);
        assert!(count(&db) <= 8);
    }
}

#[test]
fn of_two_writers_one_waits() {
    let disk = Mounted::new("busy");
    let [one, other] = [(); 2].map(|()| disk.open("NORMAL"));
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    one.execute_batch("BEGIN IMMEDIATE").unwrap();
    insert(&one).unwrap();
    let refused = other.execute_batch("BEGIN IMMEDIATE").unwrap_err();
    assert_eq!(code(&refused), Some(ErrorCode::DatabaseBusy));
    assert_eq!(count(&other), 0, "reading goes on");
    one.execute_batch("COMMIT").unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    insert(&other).unwrap();
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(count(&one), 2);
}

#[test]
fn a_full_disk_undoes_the_commit_that_did_not_fit_and_nothing_else() {
    let mut failures = 0;
    for after in 0..40 {
        let disk = Mounted::new(&format!("full {after}"));
        let db = disk.open("FULL");
        insert(&db).unwrap();
        disk.0.arm(after, Fault::Full { calls: 1000 });
        let mut acknowledged = 1;
        let error = loop {
            match insert(&db) {
                Ok(_) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(code(&error), Some(ErrorCode::DiskFull), "{error}");
        assert!(disk.0.disarm());
        failures += 1;
        assert_eq!(count(&db), acknowledged);
        insert(&db).unwrap();
        assert_eq!(count(&disk.open("FULL")), acknowledged + 1);
        assert_intact(&db);
    }
    assert_eq!(failures, 40);
}

#[test]
fn a_kill_at_any_call_keeps_what_was_acknowledged() {
    for after in 0..60 {
        let disk = Mounted::new(&format!("kill {after}"));
        let db = disk.open("FULL");
        disk.0.arm(after, Fault::Kill);
        let mut acknowledged = 0;
        while acknowledged < 30 && insert(&db).is_ok() {
            acknowledged += 1;
            if acknowledged % 4 == 0
                && db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).is_err()
            {
                break;
            }
        }
        assert!(disk.0.has_failed());
        drop(db);
        let next = disk.open("FULL");
        let found = count(&next);
        assert!(found == acknowledged || found == acknowledged + 1, "{found} of {acknowledged}");
        assert_intact(&next);
    }
}

#[test]
fn a_dead_handle_changes_nothing_and_releases_nothing() {
    let disk = Mounted::new("dead");
    let dead = disk.open("NORMAL");
    insert(&dead).unwrap();
    dead.execute_batch("BEGIN IMMEDIATE").unwrap();
    insert(&dead).unwrap();
    disk.0.kill();
    let before = disk.0.image();
    assert!(dead.execute_batch("COMMIT").is_err());
    assert!(insert(&dead).is_err());
    assert!(dead.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)) != Ok(0));
    assert_eq!(before.0, disk.0.image().0);
    let [next, third] = [(); 2].map(|()| disk.open("NORMAL"));
    third.busy_timeout(std::time::Duration::ZERO).unwrap();
    next.execute_batch("BEGIN IMMEDIATE").unwrap();
    let before = disk.0.image();
    drop(dead);
    assert_eq!(before.0, disk.0.image().0);
    assert_eq!(code(&third.execute_batch("BEGIN IMMEDIATE").unwrap_err()), Some(ErrorCode::DatabaseBusy));
    next.execute_batch("COMMIT").unwrap();
    assert_eq!(count(&third), 1);
}

#[test]
fn files_that_are_put_back_or_removed_are_safe_from_open_handles() {
    let disk = Mounted::new("removed");
    let db = disk.open("NORMAL");
    insert(&db).unwrap();
    let image = disk.0.image();
    insert(&db).unwrap();
    disk.0.put_back(&image);
    assert_eq!(count(&disk.open("NORMAL")), 1);
    // The memory that both handles were given lives on with them.
    disk.0.remove("db-wal");
    assert!(insert(&db).is_err());
    drop(db);
    let next = disk.open("NORMAL");
    assert!(count(&next) <= 1);
    assert_intact(&next);
}
