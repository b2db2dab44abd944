//! What is done to records of the table `t`, with a text key and a column `v`.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use dynos_sync_core::{
    Edit, RecordKey, Replica, ReplicaError,
    conflict::StrategyName,
    fields, json,
    replica::{Batch, Op, Outcome, Resolved, Revert},
};
use dynos_sync_sqlite::SqliteReplica;
use futures_executor::block_on;

pub(crate) fn key(id: &str) -> RecordKey {
    RecordKey::new("t", id).unwrap()
}

pub(crate) fn upsert(id: &str) -> Op {
    let edit = Edit::Upsert(fields([("v", json!(format!("edit of {id}")))]));
    Op::Write { key: key(id), edit, at: 10 }
}

pub(crate) fn commit(replica: &SqliteReplica, ops: Vec<Op>) -> Result<(), ReplicaError> {
    let outcome = block_on(replica.commit(Batch { ops, ..Batch::default() }))?;
    assert_ne!(outcome, Outcome::Stale);
    Ok(())
}

/// Makes an edit that is refused for good.
pub(crate) fn bury(replica: &SqliteReplica, id: &str, revert: Revert) {
    commit(replica, vec![upsert(id)]).unwrap();
    let counter = block_on(replica.state()).unwrap().last_counter;
    let (code, message) = ("invalid".to_owned(), "no".to_owned());
    commit(replica, vec![Op::Bury { key: key(id), counter, code, message, at: 20, revert }]).unwrap();
}

/// Decides a conflict for the server.
pub(crate) fn resolve(replica: &SqliteReplica, id: &str) {
    let version = |v: i64| Some(fields([("v", json!(v))]));
    let conflict = Resolved {
        key: key(id),
        base: version(0),
        mine: version(1),
        theirs: version(2),
        outcome: version(2),
        strategy: StrategyName::ServerWins,
        at: 15,
        decided_at: 15,
    };
    commit(replica, vec![Op::Resolve { conflict: Box::new(conflict), edit: None }]).unwrap();
}
