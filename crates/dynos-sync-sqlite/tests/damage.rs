//! What is damaged is told of, seen and put away, and holds nothing else up.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod edits;

use dynos_sync_core::{
    Edit, Replica, ReplicaError, Sent, fields, json,
    replica::{Due, DueLimits, Op, Revert, TableOptions},
};
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};
use edits::{bury, commit, key, resolve, upsert};
use futures_executor::block_on;
use rusqlite::Connection;
use tempfile::TempDir;

struct Device {
    dir: TempDir,
    replica: SqliteReplica,
}

impl Device {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app");
        let program = Connection::open(&path).unwrap();
        program.execute_batch("CREATE TABLE t (id TEXT PRIMARY KEY, v)").unwrap();
        let device = Self { replica: SqliteReplica::open(&path, &SqliteOptions::default()).unwrap(), dir };
        block_on(device.replica.add_table(TableOptions::new("t".parse().unwrap()))).unwrap();
        device
    }

    fn commit(&self, ops: Vec<Op>) -> Result<(), ReplicaError> {
        commit(&self.replica, ops)
    }

    fn due(&self) -> Result<Due, ReplicaError> {
        let limits = DueLimits { now: 0, longest_wait: i64::MAX, records: 100, bytes: 1 << 20, under_way: 0 };
        block_on(self.replica.due(&limits))
    }

    /// What is to be sent, by its records.
    fn sendable(&self) -> Vec<String> {
        let groups = self.due().unwrap().groups;
        groups.iter().map(|group| group[0].key.id.to_string()).collect()
    }

    /// As a bad disk would: the triggers do not see it.
    fn damage(&self, sql: &str) {
        let db = Connection::open(self.dir.path().join("app")).unwrap();
        db.execute_batch(&format!("PRAGMA ignore_check_constraints = 1; {sql}")).unwrap();
    }

    fn reopened(self) -> Self {
        block_on(self.replica.close());
        let path = self.dir.path().join("app");
        Self { replica: SqliteReplica::open(path, &SqliteOptions::default()).unwrap(), ..self }
    }
}

#[test]
fn an_edit_whose_content_reads_well_but_is_another_is_not_sent() {
    for damage in [
        "data = replace(data, 'edit', 'exit')",
        "at = at + 1",
        "op = 2",
        "id = 'c'",
        "id = x'ff'",
        "tbl = 7",
        "tbl = 'x'",
        "tag = 7",
        "tag = 'x'",
        "data = x'7b7d'",
    ] {
        let device = Device::new();
        device.commit(vec![upsert("a"), upsert("b")]).unwrap();
        device.damage(&format!("UPDATE dynos_queue SET {damage} WHERE counter = 1"));
        assert_eq!(device.sendable(), ["b"], "{damage}");
        assert_eq!(device.sendable(), ["b"], "{damage}");
        one_was_set_aside(&device, damage);
    }
}

#[test]
fn a_listing_of_the_queue_shows_what_can_be_read_and_sets_the_rest_aside() {
    for damage in ["data = '{'", "id = x'ff'", "at = 'x'", "tbl = 7"] {
        let device = Device::new();
        device.commit(vec![upsert("a"), upsert("b")]).unwrap();
        device.damage(&format!("UPDATE dynos_queue SET {damage} WHERE counter = 1"));
        let listed = block_on(device.replica.queue(0, 10)).unwrap();
        assert_eq!(listed.iter().map(|entry| entry.counter).collect::<Vec<_>>(), [2], "{damage}");
        one_was_set_aside(&device, damage);
    }
}

fn one_was_set_aside(device: &Device, what: &str) {
    let letters = block_on(device.replica.dead_letters(0, 10)).unwrap();
    let codes: Vec<&str> = letters.iter().map(|letter| letter.code.as_str()).collect();
    assert_eq!(codes, ["damaged"], "{what}: {letters:?}");
    assert_eq!(block_on(device.replica.state()).unwrap().pending, 1, "{what}");
}

#[test]
fn what_a_sent_edit_was_made_on_top_of_is_a_part_of_it() {
    let device = Device::new();
    device.commit(vec![upsert("a"), upsert("b")]).unwrap();
    let entries = device.due().unwrap().groups.into_iter().flatten();
    let sent = |entry| {
        Op::Freeze(dynos_sync_core::Entry {
            sent: Some(Sent { base: Some(dynos_sync_core::Cursor::new("1.17")) }),
            ..entry
        })
    };
    device.commit(entries.map(sent).collect()).unwrap();
    assert_eq!(device.sendable(), ["a", "b"]);
    device.damage("UPDATE dynos_queue SET base = '1.37' WHERE counter = 1");
    assert_eq!(device.sendable(), ["b"]);
}

#[test]
fn what_is_still_right_of_a_record_is_in_its_letter_and_can_be_written_again() {
    let device = Device::new();
    device.commit(vec![upsert("a")]).unwrap();
    let more = Edit::Patch(fields([("v", json!("more"))]));
    device.commit(vec![Op::Write { key: key("a"), edit: more.clone(), at: 20 }]).unwrap();
    device.damage("UPDATE dynos_queue SET data = '{}' WHERE counter = 1");
    assert_eq!(device.sendable(), Vec::<String>::new(), "what was made on top of it is not sent without it");
    let letter = block_on(device.replica.dead_letters(0, 10)).unwrap().remove(0);
    assert_eq!(letter.edits.iter().map(|(edit, _)| edit).collect::<Vec<_>>(), [&more]);
    device.commit(vec![Op::Revive { letter: letter.id, at: 30 }]).unwrap();
    assert_eq!(device.sendable(), ["a"]);
}

#[test]
fn an_unreadable_dead_letter_is_listed_among_the_others_and_can_only_be_discarded() {
    for damage in ["edits = replace(edits, 'edit', 'exit')", "edits = '{'", "record = ''", "edits = x'00'"] {
        let device = Device::new();
        ["a", "b", "c"].into_iter().for_each(|id| bury(&device.replica, id, Revert::ToBase));
        device.damage(&format!("UPDATE dynos_dead SET {damage} WHERE record = 'b'"));
        let letters = block_on(device.replica.dead_letters(0, 10)).unwrap();
        let codes: Vec<&str> = letters.iter().map(|letter| letter.code.as_str()).collect();
        assert_eq!(codes, ["invalid", "damaged", "invalid"], "{damage}");
        assert_eq!((letters[1].edits.len(), letters[2].edits.len()), (0, 1), "{damage}");
        let refused = device.commit(vec![Op::Revive { letter: letters[1].id, at: 30 }]).unwrap_err();
        assert!(matches!(refused, ReplicaError::Invalid(_)), "{damage}: {refused:?}");
        assert_eq!(block_on(device.replica.state()).unwrap().dead_letters, 3, "{damage}: it is still there");
        device.commit(vec![Op::Discard { letter: letters[1].id }]).unwrap();
        assert_eq!(block_on(device.replica.dead_letters(0, 10)).unwrap().len(), 2, "{damage}");
    }
}

#[test]
fn an_unreadable_conflict_is_listed_among_the_others_and_can_be_forgotten() {
    for damage in ["resolved = replace(resolved, '\"v\":1', '\"v\":7')", "resolved = '{'", "resolved = x'00'"]
    {
        let device = Device::new();
        ["a", "b", "c"].into_iter().for_each(|id| resolve(&device.replica, id));
        device.damage(&format!("UPDATE dynos_conflict SET {damage} WHERE id = 2"));
        let journal = block_on(device.replica.conflicts(i64::MAX, 10)).unwrap();
        let readable: Vec<bool> = journal.iter().map(|conflict| conflict.resolved.is_some()).collect();
        assert_eq!(readable, [true, false, true], "{damage}");
        device.commit(vec![Op::Forget { conflict: journal[1].id }]).unwrap();
        assert_eq!(block_on(device.replica.conflicts(i64::MAX, 10)).unwrap().len(), 2, "{damage}");
    }
}

#[test]
fn what_is_kept_of_the_replica_and_of_its_tables_is_refused_where_it_is_another() {
    for damage in [
        "dynos_state SET replica = '00000000-0000-4000-8000-000000000000'",
        "dynos_state SET last_counter = 7",
        "dynos_state SET pending = 7",
        "dynos_state SET clock = 7",
        "dynos_state SET fresh = 7",
        "dynos_state SET server = 'another'",
        "dynos_state SET seal = seal + 1",
        "dynos_state SET capture = 0",
        "dynos_table SET cursor = '1.37'",
        "dynos_table SET policy = replace(policy, 'user_id', 'uses_id')",
        "dynos_table SET n = 2",
    ] {
        let device = Device::new();
        device.commit(vec![upsert("a")]).unwrap();
        device.damage(&format!("UPDATE {damage}"));
        let device = match SqliteReplica::open(device.dir.path().join("app"), &SqliteOptions::default()) {
            Ok(replica) => Device { replica, ..device },
            Err(error) => {
                is_damaged(&error, damage);
                continue;
            }
        };
        is_damaged(&device.due().unwrap_err(), damage);
        is_damaged(&device.commit(vec![upsert("b")]).unwrap_err(), damage);
        is_damaged(&block_on(device.replica.state()).unwrap_err(), damage);
    }
}

/// The error names the file, and says what to do.
fn is_damaged(error: &ReplicaError, what: &str) {
    let text = error.to_string();
    assert!(matches!(error, ReplicaError::Corrupt(_)), "{what}: {error:?}");
    assert!(text.contains("/app: ") && text.contains("put back a copy"), "{what}: {text}");
}

#[test]
fn an_index_that_lost_an_edit_is_made_anew_at_opening() {
    let device = Device::new();
    device.commit(vec![upsert("a"), upsert("b"), upsert("c")]).unwrap();
    let postpone = |id: &str, counter| Op::Postpone { key: key(id), counter, retry_at: -1 };
    device.commit(vec![postpone("a", 1), postpone("b", 2), postpone("c", 3)]).unwrap();
    assert_eq!(device.sendable(), ["a", "b", "c"]);
    // The rows stay, the index knows of one less.
    device.damage(
        "PRAGMA writable_schema = 1;
         UPDATE sqlite_schema SET sql = sql || ' AND counter <> 5' WHERE name = 'dynos_queue_later';
         PRAGMA writable_schema = RESET; REINDEX dynos_queue_later; PRAGMA writable_schema = 1;
         UPDATE sqlite_schema SET sql = replace(sql, ' AND counter <> 5', '') WHERE name = 'dynos_queue_later';
         PRAGMA writable_schema = RESET",
    );
    let device = device.reopened();
    assert_eq!(device.sendable(), ["a", "b", "c"]);
}

#[test]
fn an_edit_of_which_nothing_says_that_it_is_its_records_oldest_is_found_at_opening() {
    for damage in ["head = 0", "head = 3", "head = 1 - head"] {
        let device = Device::new();
        device.commit(vec![upsert("a"), upsert("b"), upsert("b")]).unwrap();
        assert_eq!(device.sendable(), ["a", "b"]);
        device.damage(&format!("UPDATE dynos_queue SET {damage} WHERE counter = 2"));
        let device = device.reopened();
        assert_eq!(device.sendable(), ["a", "b"], "{damage}");
    }
    // Looked for and passed over.
    let device = Device::new();
    device.commit(vec![upsert("a")]).unwrap();
    device.commit(vec![Op::Postpone { key: key("a"), counter: 1, retry_at: -1 }]).unwrap();
    assert_eq!(device.sendable(), ["a"]);
    device.damage("UPDATE dynos_queue SET head = 1");
    assert_eq!(device.reopened().sendable(), ["a"]);
}

/// A page that lost its last write: rows of the queue are gone, their places in the indexes are not.
fn lose(device: &Device, id: &str) {
    device.damage(&format!(
        "PRAGMA writable_schema = 1;
         CREATE TABLE kept AS SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE tbl_name = 'dynos_queue' AND type = 'index';
         DELETE FROM sqlite_schema WHERE tbl_name = 'dynos_queue' AND type = 'index';
         PRAGMA writable_schema = RESET; DELETE FROM dynos_queue WHERE id = '{id}'; PRAGMA writable_schema = 1;
         INSERT INTO sqlite_schema SELECT * FROM kept; PRAGMA writable_schema = RESET; DROP TABLE kept"
    ));
}

#[test]
fn an_edit_of_which_only_the_index_knows_is_a_dead_letter_after_opening() {
    for (lost, left) in [("a", "b"), ("b", "a")] {
        let device = Device::new();
        device.commit(vec![upsert("a"), upsert("b")]).unwrap();
        lose(&device, lost);
        let device = device.reopened();
        assert_eq!(device.sendable(), [left]);
        let letter = block_on(device.replica.dead_letters(0, 10)).unwrap().remove(0);
        assert_eq!((letter.key, letter.code.as_str()), (key(lost), "damaged"));
        assert_eq!(block_on(device.replica.state()).unwrap().pending, 1);
    }
}

/// Its row is gone; what it was before says of which record the edit was.
#[test]
fn so_is_one_that_deleted_its_record() {
    let device = Device::new();
    device.commit(vec![Op::Store { key: key("a"), record: Some(fields([("v", json!(1))])) }]).unwrap();
    device.commit(vec![Op::Write { key: key("a"), edit: Edit::Delete, at: 10 }, upsert("b")]).unwrap();
    lose(&device, "a");
    let device = device.reopened();
    assert_eq!(device.sendable(), ["b"]);
    let letter = block_on(device.replica.dead_letters(0, 10)).unwrap().remove(0);
    assert_eq!((letter.key, letter.code.as_str()), (key("a"), "damaged"));
}

/// Nothing is left that says which record it was; that an edit is lost is told all the same.
#[test]
fn so_is_one_of_a_record_of_which_nothing_is_left() {
    let device = Device::new();
    device.commit(vec![upsert("a"), Op::Write { key: key("a"), edit: Edit::Delete, at: 20 }]).unwrap();
    device.commit(vec![upsert("b")]).unwrap();
    lose(&device, "a");
    let device = device.reopened();
    assert_eq!(device.sendable(), ["b"]);
    let letter = block_on(device.replica.dead_letters(0, 10)).unwrap().remove(0);
    assert_eq!((letter.key.to_string().as_str(), letter.code.as_str()), ("?/?", "damaged"));
    assert_eq!(block_on(device.replica.state()).unwrap().pending, 1);
}

/// The newest entry says how long the queue is, and how far its numbers go.
#[test]
fn a_newest_edit_that_is_another_says_nothing_of_the_queue() {
    for damage in
        ["data = x'7b7d'", "at = at + 1000000", "op = 'x'", "id = 'c'", "sum = 0", "counter = 1000000"]
    {
        let device = Device::new();
        device.commit(vec![upsert("a")]).unwrap();
        device.commit(vec![upsert("b")]).unwrap();
        device.damage(&format!("UPDATE dynos_queue SET {damage} WHERE id = 'b'"));
        let state = block_on(device.replica.state()).unwrap();
        assert_eq!((state.pending, state.last_counter), (2, 2), "{damage}");
        assert!(state.clock < 1000, "{damage}");
        device.commit(vec![upsert("d")]).unwrap();
        assert_eq!(device.sendable(), ["a", "d"], "{damage}");
        let counters = device.due().unwrap().groups.into_iter().flatten().map(|entry| entry.counter);
        assert_eq!(counters.collect::<Vec<_>>(), [1, 3], "{damage}");
        let letters = block_on(device.replica.dead_letters(0, 10)).unwrap();
        assert_eq!((letters.len(), letters[0].code.as_str()), (1, "damaged"), "{damage}");
    }
}

#[test]
fn what_was_queued_in_another_session_or_in_another_file_is_not_sent_in_this_one() {
    let (earlier, other) = (Device::new(), Device::new());
    for device in [&earlier, &other] {
        device.commit(vec![upsert("a")]).unwrap();
        device.due().unwrap();
    }
    // As a page of before the logout would bring it back.
    earlier.damage("CREATE TABLE kept AS SELECT * FROM dynos_queue");
    block_on(earlier.replica.logout(true)).unwrap();
    earlier.damage("INSERT INTO dynos_queue SELECT * FROM kept; DROP TABLE kept");
    // As a page of another's file would.
    let new = Device::new();
    let path = other.dir.path().join("app");
    new.damage(&format!(
        "ATTACH '{}' AS other; INSERT INTO dynos_queue SELECT * FROM other.dynos_queue",
        path.display()
    ));
    for device in [earlier, new] {
        assert_eq!(device.sendable(), Vec::<String>::new());
        let device = device.reopened();
        assert_eq!(device.sendable(), Vec::<String>::new());
        assert_eq!(block_on(device.replica.dead_letters(0, 10)).unwrap()[0].code, "damaged");
        assert_eq!(block_on(device.replica.state()).unwrap().pending, 0);
    }
}

/// What a file of version 4 has in place of what later ones have.
const VERSION_4: &str = "
    DROP INDEX dynos_queue_tag; ALTER TABLE dynos_queue DROP COLUMN tag; CREATE INDEX dynos_queue_record ON dynos_queue (tbl, id, counter);
    DROP INDEX dynos_dead_record; ALTER TABLE dynos_state DROP COLUMN schema; DROP TABLE dynos_sent_as;
    ALTER TABLE dynos_table DROP COLUMN left_out; ALTER TABLE dynos_table DROP COLUMN gained;
    DROP INDEX dynos_queue_txn; DROP VIEW dynos_transaction;
    ALTER TABLE dynos_queue DROP COLUMN txn; ALTER TABLE dynos_dead DROP COLUMN txn;
    DROP INDEX dynos_queue_later; DROP INDEX dynos_queue_retry;
    CREATE INDEX dynos_queue_ready   ON dynos_queue (counter)  WHERE head = 1 AND sent = 0 AND retry_at IS NULL;
    CREATE INDEX dynos_queue_waiting ON dynos_queue (retry_at) WHERE head = 1 AND retry_at IS NOT NULL;
    ALTER TABLE dynos_state DROP COLUMN fresh; UPDATE dynos_queue SET head = head > 0;
    UPDATE dynos_state SET pending = (SELECT count(*) FROM dynos_queue), last_counter = max(last_counter, (SELECT max(counter) FROM dynos_queue));";

/// Those that were kept by a version without sums are taken for what they are.
#[test]
fn a_file_of_a_version_without_sums_gets_them_and_goes_on() {
    let device = Device::new();
    device.commit(vec![upsert("a"), upsert("b")]).unwrap();
    bury(&device.replica, "c", Revert::ToBase);
    resolve(&device.replica, "d");
    let path = device.dir.path().join("app");
    block_on(device.replica.close());
    let older = ["state", "table", "queue", "base", "dead", "conflict"]
        .map(|table| format!("ALTER TABLE dynos_{table} DROP COLUMN sum;"))
        .concat();
    let older = format!("{older} {VERSION_4}");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(&format!(
        "{older} ALTER TABLE dynos_state DROP COLUMN seal; ALTER TABLE dynos_state DROP COLUMN last_sent; UPDATE dynos_state SET version = 2"
    ))
    .unwrap();
    let device = Device { replica: SqliteReplica::open(&path, &SqliteOptions::default()).unwrap(), ..device };
    assert_eq!(device.sendable(), ["a", "b"]);
    assert_eq!(block_on(device.replica.dead_letters(0, 10)).unwrap()[0].edits.len(), 1);
    assert!(block_on(device.replica.conflicts(i64::MAX, 10)).unwrap()[0].resolved.is_some());
    device.commit(vec![upsert("e")]).unwrap();
    assert_eq!(device.sendable(), ["a", "b", "e"]);
}

#[test]
fn a_trigger_that_notes_something_else_is_made_anew_at_opening() {
    for damage in
        ["replace(sql, 'NEW.\"id\"', 'NEW.\"v\"')", "replace(sql, 'SELECT capture', 'SELECT scrub')"]
    {
        let device = Device::new();
        block_on(device.replica.close());
        device.damage(&format!(
            "PRAGMA writable_schema = 1;
             UPDATE sqlite_schema SET sql = {damage} WHERE name = 'dynos_1_insert';
             PRAGMA writable_schema = RESET"
        ));
        let device = device.reopened();
        block_on(device.replica.state()).unwrap();
        device.commit(vec![upsert("a")]).unwrap();
        let program = Connection::open(device.dir.path().join("app")).unwrap();
        program.execute_batch("INSERT INTO t VALUES ('b', 'other')").unwrap();
        assert_eq!(device.sendable(), ["a", "b"], "{damage}");
    }
}
