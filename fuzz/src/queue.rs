//! A device's database whose own tables hold something else than was written there: a bad disk, or another program.
//!
//! An input is what is found in which place, one a line: a letter for the place (see `PLACES`) and the text. A capital letter:
//! what is found there has its right sum, as a program would leave it that knows how they are made.

mod damage;
mod shelf;

use std::cell::RefCell;

use dynos_sync_core::{
    Edit, RecordKey, Replica, ReplicaError, TableName, fields,
    replica::{Batch, DueLimits, Op, Revert},
};
use dynos_sync_sqlite::SqliteReplica;
use futures_executor::block_on;

use self::shelf::Shelf;
use crate::script;

thread_local! {
    static SHELF: RefCell<Option<Shelf>> = const { RefCell::new(None) };
}

/// The body of the target.
pub fn run(data: &[u8]) {
    SHELF.with_borrow_mut(|shelf| {
        let shelf = RefCell::new(shelf.get_or_insert_with(Shelf::new));
        let lines = script::text_lines(data);
        let whole = || in_a_file(&shelf.borrow(), &lines);
        script::in_two_ways(data, whole, || in_place(&mut shelf.borrow_mut(), &lines));
    });
}

/// From opening a file on to its end.
fn in_a_file(shelf: &Shelf, lines: &[&str]) {
    let (path, damage) = shelf.file(lines);
    let replica = match SqliteReplica::open(&path, &shelf::options()) {
        Ok(replica) => replica,
        Err(error) => return is_typed(&error),
    };
    block_on(async {
        look(&replica, damage.edits_only).await;
        work(&replica).await;
        end(&replica).await;
        replica.close().await;
    });
}

/// The same without a new file and without an end, in a fraction of the time.
fn in_place(shelf: &mut Shelf, lines: &[&str]) {
    let device = shelf.device();
    let damage = match device.begin(lines) {
        Ok(damage) => damage,
        Err(error) => return is_typed(&error),
    };
    block_on(async {
        look(&device.replica, damage.edits_only).await;
        work(&device.replica).await;
    });
}

/// Everything that only looks. Where only edits are damaged, those that are not go on.
async fn look(replica: &SqliteReplica, edits_only: bool) {
    let limits =
        DueLimits { now: 1 << 40, longest_wait: 1 << 40, records: 100, bytes: 1 << 20, under_way: 0 };
    let due = replica.due(&limits).await;
    let again = replica.due(&limits).await;
    if edits_only {
        let due = due.as_ref().expect("what is sound can be sent");
        let whole = |group: &Vec<dynos_sync_core::Entry>| !group.is_empty();
        assert!(due.groups.iter().all(whole), "{due:?}");
        assert_eq!(Some(due), again.as_ref().ok(), "the second look shows the same");
    }
    if edits_only {
        let (table, ids) = (name("d"), ["x", "y"].map(|id| id.parse().expect("an id")));
        replica.records(&table, &ids, false).await.expect("what is sound can be pulled");
    }
    is_answer(due);
    is_answer(again);
    is_answer(replica.state().await);
    is_answer(replica.queue(0, 100).await);
    is_answer(replica.dead_letters(0, 100).await);
    is_answer(replica.conflicts(i64::MAX, 100).await);
    for table in ["d", "c"].map(name) {
        let ids = ["x", "y", "z", "1", "2"].map(|id| id.parse().expect("an id"));
        is_answer(replica.unsettled(&table, 100).await);
        is_answer(replica.records(&table, &ids, true).await);
        is_answer(replica.records(&table, &ids, false).await);
        is_answer(replica.get(&RecordKey { table, id: "x".parse().expect("an id") }).await);
    }
}

/// What a user and a sync would do next.
async fn work(replica: &SqliteReplica) {
    let key = |id| RecordKey::new("d", id).expect("a key");
    let edit = Edit::Upsert(fields([("n", 7.into())]));
    // The user's own first: whenever foreign keys begin or cease to hold, SQLite compiles all statements anew.
    for op in [
        Op::Write { key: key("x"), edit, at: 9 },
        Op::Revive { letter: 1, at: 9 },
        Op::Store { key: key("y"), record: None },
        Op::Settle { key: key("x"), counter: 1, record: Some(fields([])) },
        Op::Bury {
            key: key("y"),
            counter: 2,
            code: "constraint".to_owned(),
            message: String::new(),
            at: 9,
            revert: Revert::ToBase,
        },
        Op::Complete { table: name("d"), at: 9, passed: None },
        Op::Rename,
    ] {
        is_answer(replica.commit(Batch { ops: vec![op], ..Batch::default() }).await);
    }
}

/// What changes the schema, and with it all that is known of the file.
async fn end(replica: &SqliteReplica) {
    is_answer(replica.remove_table(&name("c")).await);
    is_answer(replica.logout(true).await);
}

/// An answer, or an error that says that the database is damaged.
fn is_answer<T>(answer: Result<T, ReplicaError>) {
    answer.err().iter().for_each(is_typed);
}

fn is_typed(error: &ReplicaError) {
    use ReplicaError::{Constraint, Corrupt, Invalid, NotFound, UnknownTable};
    let typed = matches!(error, Corrupt(_) | Invalid(_) | UnknownTable(_) | NotFound(_) | Constraint { .. });
    assert!(typed, "{error:?}");
}

fn name(name: &str) -> TableName {
    name.parse().expect("a name")
}
