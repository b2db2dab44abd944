//! Identity, clock, sessions and the end.

use serde_json::json;

use super::{
    super::{some, upsert},
    Device, Fixture,
    device::{
        LATE, OTHER, TABLE, advance, bury, complete, id, journaled, key, key_in, name, settle, store, write,
    },
};
use crate::replica::{
    Batch, DueLimits, Existing, Expected, Logout, Op, Outcome, Phase, ReplicaError, Revert, TableOptions,
};

/// One of everything: a pending entry, a dead letter, a conflict, rows, a cursor, a server.
async fn full(fixture: &dyn Fixture) -> Device {
    let device = Device::new(fixture).await;
    device.write("dead", upsert(json!({}))).await;
    let sent = device.send_one().await;
    device
        .commit(vec![
            bury(&sent, Revert::Keep),
            journaled(key("conflict")),
            store("clean", some(json!({}))),
            write("pending", upsert(json!({}))),
            Op::Bind { server: "here".into() },
            Op::Declared { table: name(TABLE) },
            advance("one", &[]),
            complete(),
        ])
        .await;
    device
}

pub async fn a_new_replica_is_empty(fixture: &dyn Fixture) {
    let replica = fixture.open().await;
    let state = replica.state().await.unwrap();
    assert_eq!((state.server, state.last_counter, state.tables), (None, 0, vec![]));
    assert_eq!((state.pending, state.dead_letters, state.conflicts, state.quarantined), (0, 0, 0, 0));
    let due = replica
        .due(&DueLimits { now: LATE, longest_wait: i64::MAX, records: 10, bytes: 1000, under_way: 0 })
        .await
        .unwrap();
    assert_eq!((due.groups.len(), due.next_retry), (0, None));
}

pub async fn an_identity_survives_reopen(fixture: &dyn Fixture) {
    let device = full(fixture).await;
    device.send().await;
    let state = device.state().await;
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(device.state().await, state);
    device.commit(vec![Op::Rename]).await;
    let renamed = device.state().await;
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(device.state().await, renamed);
}

pub async fn logout_is_refused_while_something_is_unsynced(fixture: &dyn Fixture) {
    let device = full(fixture).await;
    let before = device.state().await;
    assert_eq!(device.replica.logout(false).await.unwrap(), Logout::Unsynced { changes: 2 });
    assert_eq!(device.state().await, before);
    assert!(device.row("clean").await.is_some());
}

pub async fn logout_forgets_the_user(fixture: &dyn Fixture) {
    let device = full(fixture).await;
    let before = device.state().await;
    assert_eq!(device.replica.logout(true).await.unwrap(), Logout::Done { discarded: 2 });
    let state = device.state().await;
    assert!(state.replica != before.replica && state.generation > before.generation);
    assert_eq!((state.pending, state.dead_letters, state.conflicts), (0, 0, 0));
    for record in ["dead", "clean", "pending", "conflict"] {
        assert_eq!(device.row(record).await, None, "{record}");
    }
    let table = device.table().await;
    assert_eq!((table.cursor, table.phase, table.synced_at), (None, Phase::First, None));
    assert_eq!(device.queue().await, []);
    assert_eq!(device.replica.dead_letters(0, 10).await.unwrap(), []);
    assert_eq!(device.replica.conflicts(i64::MAX, 10).await.unwrap(), []);
    device.write("1", upsert(json!({"next": "user"}))).await;
    assert_eq!(device.base("1").await, None);
}

pub async fn logout_without_unsynced_changes_discards_nothing(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({}))).await;
    let sent = device.send_one().await;
    device.commit(vec![settle(&sent, None)]).await;
    assert_eq!(device.replica.logout(false).await.unwrap(), Logout::Done { discarded: 0 });
    assert_eq!(device.row("1").await, None);
}

pub async fn logout_forgets_the_rows_of_tables_that_the_user_stopped_syncing(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.add(OTHER).await;
    let left = key_in(OTHER, "left");
    device.commit(vec![Op::Store { key: left.clone(), record: some(json!({"a": 1})) }]).await;
    device.replica.remove_table(&name(OTHER)).await.unwrap();
    let Some(device) = device.reopened(fixture).await else { return };
    device.replica.logout(true).await.unwrap();
    let options = TableOptions { existing: Existing::Ignore, ..TableOptions::new(name(OTHER)) };
    device.replica.add_table(options).await.unwrap();
    assert_eq!(device.row_of(&left).await, None);
}

pub async fn logout_leaves_tables_alone_that_an_earlier_user_stopped_syncing(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.add(OTHER).await;
    device.replica.remove_table(&name(OTHER)).await.unwrap();
    device.replica.logout(true).await.unwrap();
    device.add(OTHER).await;
    let kept = key_in(OTHER, "kept");
    device.commit(vec![Op::Store { key: kept.clone(), record: some(json!({"a": 1})) }]).await;
    assert_eq!(device.row_of(&kept).await, some(json!({"a": 1})));
}

pub async fn a_batch_planned_before_logout_is_stale(fixture: &dyn Fixture) {
    let device = full(fixture).await;
    let planned = Expected { generation: Some(device.state().await.generation), ..Expected::default() };
    device.replica.logout(true).await.unwrap();
    let ops = vec![store("1", some(json!({"of": "the user before"})))];
    assert_eq!(device.commit_if(planned, ops).await, Outcome::Stale);
    assert_eq!(device.row("1").await, None);
}

pub async fn a_logout_survives_reopen(fixture: &dyn Fixture) {
    let device = full(fixture).await;
    device.replica.logout(true).await.unwrap();
    let state = device.state().await;
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(device.state().await, state);
    assert_eq!((device.row("clean").await, device.queue().await), (None, vec![]));
}

pub async fn a_logout_takes_the_rows_of_tables_that_are_no_longer_synced(fixture: &dyn Fixture) {
    let device = full(fixture).await;
    device.replica.remove_table(&name(TABLE)).await.unwrap();
    device.replica.logout(true).await.unwrap();
    device.add(TABLE).await;
    assert_eq!(device.row("clean").await, None);
}

pub async fn a_replica_belongs_to_the_server_it_was_bound_to(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![Op::Bind { server: "here".into() }]).await;
    assert_eq!(device.state().await.server.as_deref(), Some("here"));
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(device.state().await.server.as_deref(), Some("here"));
}

pub async fn a_renamed_replica_sends_its_entries_again(fixture: &dyn Fixture) {
    let device = full(fixture).await;
    device.send().await;
    device.write("pending", upsert(json!({"b": 1}))).await;
    let (before, queue) = (device.state().await, device.queue().await);
    device.commit(vec![Op::Rename]).await;
    let state = device.state().await;
    assert_ne!(state.replica, before.replica);
    assert!(before.last_sent > 0);
    assert_eq!(state.last_sent, 0, "nothing was sent under the new name");
    assert_eq!(
        (state.generation, &state.server, state.pending),
        (before.generation, &before.server, before.pending)
    );
    assert_eq!(device.unsettled().await, []);
    let edits = super::device::edits;
    assert_eq!(edits(&device.queue().await), edits(&queue));
    let first = state.replica;
    device.commit(vec![Op::Rename]).await;
    let second = device.state().await.replica;
    assert!(second != first && second != before.replica, "never an old one");
}

pub async fn an_observed_time_is_behind_every_later_edit(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![Op::Observe { at: 5000 }]).await;
    assert_eq!(device.state().await.clock, 5000);
    device.commit(vec![Op::Write { key: key("1"), edit: upsert(json!({})), at: 100 }]).await;
    assert_eq!(device.entries("1").await[0].at, 5001);
    let Some(device) = device.reopened(fixture).await else { return };
    device.commit(vec![Op::Enqueue { key: key("1"), edit: upsert(json!({})), at: 100 }]).await;
    assert_eq!(device.entries("1").await[1].at, 5002);
}

pub async fn an_earlier_time_changes_nothing(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![Op::Observe { at: 5000 }, Op::Observe { at: 10 }]).await;
    assert_eq!(device.state().await.clock, 5000);
}

pub async fn the_state_counts_what_there_is(fixture: &dyn Fixture) {
    let device = full(fixture).await;
    let counts = async || {
        let state = device.state().await;
        (state.pending, state.dead_letters, state.conflicts)
    };
    assert_eq!(counts().await, (1, 1, 1));
    device.write("pending", upsert(json!({"b": 1}))).await;
    device.write("another", upsert(json!({}))).await;
    assert_eq!(counts().await, (3, 1, 1), "entries are counted");
    let sent = device.send().await;
    assert_eq!(counts().await, (2, 1, 1), "what is sent as one is one");
    device
        .commit(vec![settle(&sent[0], None), bury(&sent[1], Revert::ToBase), journaled(key("conflict"))])
        .await;
    assert_eq!(counts().await, (0, 2, 2));
    let letters = device.replica.dead_letters(0, 10).await.unwrap();
    device.commit(letters.iter().map(|letter| Op::Discard { letter: letter.id }).collect()).await;
    assert_eq!(counts().await, (0, 0, 2));
}

pub async fn a_closed_replica_says_so(fixture: &dyn Fixture) {
    let device = full(fixture).await;
    let replica = device.replica;
    replica.close().await;
    replica.close().await;
    let limits = DueLimits { now: 0, longest_wait: i64::MAX, records: 1, bytes: 1, under_way: 0 };
    let batch = Batch { ops: vec![write("1", upsert(json!({})))], ..Batch::default() };
    let table = name(TABLE);
    for (call, failed) in [
        ("state", replica.state().await.err()),
        ("get", replica.get(&key("1")).await.err()),
        ("records", replica.records(&table, &[id("1")], true).await.err()),
        ("due", replica.due(&limits).await.err()),
        ("unsettled", replica.unsettled(&table, 1).await.err()),
        ("commit", replica.commit(batch).await.err()),
        ("add_table", replica.add_table(TableOptions::new(name(OTHER))).await.err()),
        ("remove_table", replica.remove_table(&table).await.err()),
        ("logout", replica.logout(true).await.err()),
        ("queue", replica.queue(0, 1).await.err()),
        ("dead_letters", replica.dead_letters(0, 1).await.err()),
        ("conflicts", replica.conflicts(i64::MAX, 1).await.err()),
    ] {
        assert!(matches!(failed, Some(ReplicaError::Closed)), "{call}: {failed:?}");
    }
}
