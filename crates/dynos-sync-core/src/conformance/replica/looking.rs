//! What people are told of a record and of the database.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Device, Fixture,
    device::{TABLE, bury, journaled, key, key_in, name, postpone, store},
};
use crate::{
    doctor::{Account, Depth},
    replica::{Existing, ReplicaError, Revert, TableOptions},
};

async fn account(device: &Device, id: &str) -> Account {
    device.replica.account(&key(id)).await.unwrap()
}

pub async fn an_account_has_what_is_pending_of_a_record(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    device.write("1", patch(json!({"a": 1}))).await;
    let sent = device.send_one().await;
    device.write("1", patch(json!({"b": 2}))).await;
    device.write("2", upsert(json!({"a": 9}))).await;
    let found = account(&device, "1").await;
    assert_eq!((found.row, found.base), (some(json!({"a": 1, "b": 2})), some(json!({"a": 0}))));
    assert_eq!(found.entries, device.entries("1").await);
    assert!(found.entries[0].sent.is_some() && found.entries[1].sent.is_none());
    assert_eq!((found.damaged, found.noted), (0, None));

    device.commit(vec![postpone(&sent, 500)]).await;
    let oldest = account(&device, "1").await.entries.remove(0);
    assert_eq!((oldest.attempts, oldest.retry_at), (1, Some(500)));
}

pub async fn an_account_has_the_letters_and_conflicts_of_its_record_alone(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    for id in ["1", "2"] {
        device.write(id, upsert(json!({"a": 1}))).await;
        let sent = device.send_one().await;
        device.commit(vec![bury(&sent, Revert::Keep), journaled(key(id))]).await;
    }
    let found = account(&device, "2").await;
    let letters = device.replica.dead_letters(0, 10).await.unwrap();
    assert_eq!(found.letters, [letters[1].clone()]);
    let conflicts = device.replica.conflicts(i64::MAX, 10).await.unwrap();
    assert_eq!(found.conflicts, [conflicts[0].clone()], "the newest is the other one's successor");
    assert_eq!(found.entries, []);
}

pub async fn an_account_of_a_record_that_is_not_there_is_empty(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    assert_eq!(account(&device, "2").await, Account::empty(key("2")));
}

pub async fn an_account_of_a_table_that_is_not_synced_is_refused(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let refused = device.replica.account(&key_in("elsewhere", "1")).await;
    assert!(matches!(refused, Err(ReplicaError::UnknownTable(table)) if table == name("elsewhere")));
}

pub async fn an_account_knows_what_was_never_offered(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    assert!(!account(&device, "1").await.never_offered);
    device.replica.remove_table(&name(TABLE)).await.unwrap();
    let options = TableOptions { existing: Existing::Ignore, ..TableOptions::new(name(TABLE)) };
    device.replica.add_table(options).await.unwrap();
    assert!(account(&device, "1").await.never_offered);
}

pub async fn an_inspection_counts_what_there_is(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    let sent = device.send_one().await;
    device.commit(vec![bury(&sent, Revert::Keep)]).await;
    device.write("2", upsert(json!({"a": 1}))).await;
    let sent = device.send_one().await;
    device.commit(vec![postpone(&sent, 500)]).await;
    device.write("3", upsert(json!({"a": 1}))).await;
    device.send().await;
    for depth in [Depth::Quick, Depth::Full] {
        let inspection = device.replica.inspect(depth).await.unwrap();
        assert_eq!(inspection.findings, [], "a sound database");
        let counted = &inspection.survey.tables[&name(TABLE)];
        assert_eq!(counted.dead_letters.values().sum::<u64>(), 1);
        assert_eq!(counted.queued.values().sum::<u64>(), 2);
        assert_eq!((counted.sent, counted.refused, counted.most_attempts), (2, 1, 1));
    }
}

pub async fn looking_changes_nothing(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    let (state, queue) = (device.state().await, device.queue().await);
    account(&device, "1").await;
    device.replica.inspect(Depth::Full).await.unwrap();
    assert_eq!((device.state().await, device.queue().await), (state, queue));
}
