//! Tables that come and go.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Device, Fixture,
    device::{
        OTHER, TABLE, advance, bury, complete, cursor, edits, journaled, key, key_in, name, restart, store,
    },
};
use crate::{
    entry::Edit,
    replica::{Existing, Op, Phase, ReplicaError, Revert, TableOptions, TablePolicy},
    table::TableSpec,
};

/// A table with rows `1` and `2` that is not synced any more.
async fn left(fixture: &dyn Fixture) -> Device {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 1}))), store("2", some(json!({"a": 2})))]).await;
    assert!(device.replica.remove_table(&name(TABLE)).await.unwrap());
    device
}

pub async fn a_table_begins_with_its_first_pull(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let table = device.table().await;
    assert_eq!(table.spec, TableSpec::document(name(TABLE)));
    assert_eq!(table.policy, TablePolicy::default());
    assert_eq!(
        (table.cursor, table.phase, table.declared, table.synced_at),
        (None, Phase::First, false, None)
    );
}

pub async fn tables_are_listed_in_the_order_in_which_they_were_added(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    for table in ["zebras", "apples", "表 😀"] {
        device.add(table).await;
    }
    let listed: Vec<String> =
        device.state().await.tables.iter().map(|table| table.spec.name.to_string()).collect();
    assert_eq!(listed, [TABLE, "zebras", "apples", "表 😀"]);
}

pub async fn adding_a_table_again_changes_its_policy_only(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({}))), advance("one", &["1"]), complete()]).await;
    let before = device.table().await;
    assert!(!device.replica.add_table(TableOptions::new(name(TABLE))).await.unwrap(), "nothing changed");
    assert_eq!(device.table().await, before);
    let policy = TablePolicy {
        pull: false,
        sensitive_fields: vec!["profile.ssn".into()],
        owner_columns: vec!["owner".into()],
        user: Some("ada".into()),
    };
    let options = TableOptions { policy: policy.clone(), ..TableOptions::new(name(TABLE)) };
    assert!(device.replica.add_table(options.clone()).await.unwrap());
    assert!(!device.replica.add_table(options).await.unwrap());
    assert_eq!((device.table().await.policy, device.table().await.cursor), (policy, before.cursor));
    assert_eq!(device.queue().await, [], "the rows were adopted the first time");
}

pub async fn rows_that_are_there_already_are_queued_as_older_than_any_edit(fixture: &dyn Fixture) {
    let device = left(fixture).await;
    device.add(TABLE).await;
    let mut queue = device.queue().await;
    queue.sort_by(|one, other| one.key.cmp(&other.key));
    let whole = |a: i32| Edit::Replace(some(json!({"a": a})).unwrap());
    assert_eq!(edits(&queue), [whole(1), whole(2)], "the server is to have no more of them than this device");
    assert!(queue.iter().all(|entry| entry.at == 0 && entry.sent.is_none()));
    assert_eq!((device.row("1").await, device.base("1").await), (some(json!({"a": 1})), None));
    assert_eq!(device.state().await.pending, 2);
}

pub async fn rows_that_are_there_already_can_be_ignored(fixture: &dyn Fixture) {
    let device = left(fixture).await;
    let options = TableOptions { existing: Existing::Ignore, ..TableOptions::new(name(TABLE)) };
    assert!(device.replica.add_table(options).await.unwrap());
    assert_eq!((device.row("1").await, device.queue().await), (some(json!({"a": 1})), vec![]));
    device.write("1", patch(json!({"b": 1}))).await;
    assert_eq!(device.base("1").await, some(json!({"a": 1})));
}

pub async fn the_first_edit_of_a_row_that_was_ignored_offers_it_whole(fixture: &dyn Fixture) {
    let device = left(fixture).await;
    let options = TableOptions { existing: Existing::Ignore, ..TableOptions::new(name(TABLE)) };
    assert!(device.replica.add_table(options).await.unwrap());
    device.write("1", patch(json!({"b": 1}))).await;
    device.write("1", patch(json!({"c": 1}))).await;
    let whole = Edit::Replace(some(json!({"a": 1, "b": 1})).unwrap());
    assert_eq!(edits(&device.queue().await), [whole, patch(json!({"c": 1}))]);
    let sent = device.send_one().await;
    device.commit(vec![bury(&sent, Revert::To(None))]).await;
    assert_eq!(device.row("1").await, some(json!({"a": 1})), "given up, it is what it was");
    device.commit(vec![restart(Phase::Resync), advance("end", &[]), complete()]).await;
    assert_eq!(device.row("1").await, some(json!({"a": 1})), "and this device's alone");
}

/// What the device keeps to itself does not go with a walk that does not list it, nor is it offered.
pub async fn rows_that_are_ignored_are_so_after_a_reopen(fixture: &dyn Fixture) {
    let device = left(fixture).await;
    let options = TableOptions { existing: Existing::Ignore, ..TableOptions::new(name(TABLE)) };
    assert!(device.replica.add_table(options).await.unwrap());
    let Some(device) = device.reopened(fixture).await else { return };
    for phase in [Phase::Resync, Phase::Restore { common: 0, own: None }] {
        device.commit(vec![restart(phase), advance("end", &[]), complete()]).await;
        assert_eq!(
            (device.row("1").await, device.queue().await),
            (some(json!({"a": 1})), vec![]),
            "{phase:?}"
        );
    }
}

pub async fn a_replica_keeps_its_name_over_a_reopen(fixture: &dyn Fixture) {
    let device = Device { replica: fixture.open().await };
    let before = device.state().await.replica;
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(device.state().await.replica, before);
}

pub async fn a_declared_table_stays_declared(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.add(OTHER).await;
    device.commit(vec![Op::Declared { table: name(OTHER) }]).await;
    assert!(device.table_named(OTHER).await.declared);
    assert!(!device.table().await.declared);
    device.commit(vec![Op::Declared { table: name(TABLE) }, Op::Undeclared { table: name(TABLE) }]).await;
    assert!(!device.table().await.declared);
    device.commit(vec![Op::Restart { table: name(OTHER), phase: Phase::Resync, ahead: None }]).await;
    assert!(device.table_named(OTHER).await.declared);
    let phase = Phase::Restore { common: 3, own: None };
    device.commit(vec![Op::Restart { table: name(OTHER), phase, ahead: None }]).await;
    assert!(!device.table_named(OTHER).await.declared, "a restored server may lack the declaration");
    device.commit(vec![Op::Declared { table: name(OTHER) }]).await;
    let Some(device) = device.reopened(fixture).await else { return };
    assert!(device.table_named(OTHER).await.declared);
}

pub async fn a_removed_table_keeps_its_rows_but_not_its_queue(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    device.send().await;
    device.write("1", patch(json!({"b": 1}))).await;
    assert!(device.replica.remove_table(&name(TABLE)).await.unwrap());
    assert!(!device.replica.remove_table(&name(TABLE)).await.unwrap(), "it was removed before");
    assert_eq!((device.queue().await, device.state().await.pending), (vec![], 0));
    assert_eq!(device.due_at(0).await.groups, [[]; 0]);
    assert!(matches!(device.replica.get(&key("1")).await, Err(ReplicaError::UnknownTable(_))));
    device.add(TABLE).await;
    assert_eq!(device.row("1").await, some(json!({"a": 1, "b": 1})));
}

pub async fn a_removed_table_starts_anew_when_it_is_added_again(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![advance("one", &[]), complete(), Op::Declared { table: name(TABLE) }]).await;
    let used = device.write("1", upsert(json!({}))).await;
    device.replica.remove_table(&name(TABLE)).await.unwrap();
    device.add(TABLE).await;
    let table = device.table().await;
    assert_eq!(
        (table.cursor, table.phase, table.declared, table.synced_at),
        (None, Phase::First, false, None)
    );
    assert!(device.queue().await.iter().all(|entry| entry.counter > used), "numbers are never used again");
}

pub async fn removing_a_table_leaves_the_others_alone(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.add(OTHER).await;
    let (other, clean) = (key_in(OTHER, "1"), key_in(OTHER, "4"));
    for edit in [upsert(json!({})), patch(json!({"b": 1}))] {
        device.commit(vec![Op::Write { key: other.clone(), edit, at: 0 }]).await;
    }
    device.commit(vec![Op::Write { key: key_in(OTHER, "2"), edit: upsert(json!({})), at: 0 }]).await;
    let refused = device.queue().await.pop().unwrap();
    device
        .commit(vec![
            Op::Restart { table: name(OTHER), phase: Phase::Resync, ahead: None },
            Op::Store { key: clean.clone(), record: some(json!({})) },
            Op::Advance { table: name(OTHER), cursor: cursor("c"), seen: vec![clean.id.clone()] },
            bury(&refused, Revert::ToBase),
            journaled(key_in(OTHER, "3")),
        ])
        .await;
    let (queue, table) = (device.queue().await, device.table_named(OTHER).await);
    device.write("1", upsert(json!({}))).await;
    device.replica.remove_table(&name(TABLE)).await.unwrap();
    assert_eq!((device.queue().await, device.table_named(OTHER).await), (queue, table));
    let state = device.state().await;
    assert_eq!((state.dead_letters, state.conflicts), (1, 1));
    assert_eq!(device.row_of(&other).await, some(json!({"b": 1})));
    device.commit(vec![Op::Complete { table: name(OTHER), at: 50, passed: None }]).await;
    assert_eq!(device.row_of(&clean).await, some(json!({})), "its walk has seen it");
}

pub async fn tables_survive_reopen(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let policy = TablePolicy {
        user: Some("ada".into()),
        sensitive_fields: vec!["a.b".into()],
        ..TablePolicy::default()
    };
    device.replica.add_table(TableOptions { policy, ..TableOptions::new(name(OTHER)) }).await.unwrap();
    device.add("third").await;
    device.replica.remove_table(&name(TABLE)).await.unwrap();
    let state = device.state().await;
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(device.state().await, state);
}
