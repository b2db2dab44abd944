//! Ids and values that adapters are known to mangle.

use serde_json::json;

use super::{
    super::{
        hostile::{self, assert_identical},
        upsert,
    },
    Device, Fixture, device,
    device::{LATE, bury, key, name, settle},
};
use crate::{
    conflict::StrategyName,
    entry::Edit,
    ids::{RecordId, RecordKey},
    record::{Fields, fields},
    replica::{Op, ReplicaError, Resolved, Revert},
};

fn numbered() -> impl Iterator<Item = (String, Fields)> {
    hostile::records().into_iter().enumerate().map(|(number, record)| (number.to_string(), record))
}

fn keyed(id: &RecordId) -> RecordKey {
    RecordKey { table: name("tasks"), id: id.clone() }
}

async fn write_ids(device: &Device) -> Vec<RecordId> {
    let ids = hostile::ids();
    let mark = |id: &RecordId| upsert(json!({"is": id.as_str()}));
    device.commit(ids.iter().map(|id| Op::Write { key: keyed(id), edit: mark(id), at: 0 }).collect()).await;
    ids
}

pub async fn every_value_and_field_name_comes_back_as_it_was(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    for (id, record) in numbered() {
        let stored = Op::Store { key: key(&format!("stored {id}")), record: Some(record.clone()) };
        device
            .commit(vec![stored, Op::Write { key: key(&id), edit: Edit::Upsert(record.clone()), at: 0 }])
            .await;
        assert_identical(device.row(&id).await.as_ref(), &record);
        assert_identical(device.row(&format!("stored {id}")).await.as_ref(), &record);
    }
}

pub async fn every_value_survives_the_queue(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    for (id, record) in numbered() {
        let [stored, replaced, merged] = ["stored", "replaced", "merged"].map(|kind| format!("{kind} {id}"));
        device.commit(vec![Op::Store { key: key(&stored), record: Some(record.clone()) }]).await;
        device.write(&stored, Edit::Delete).await;
        assert_identical(device.base(&stored).await.as_ref(), &record);
        device.write(&replaced, Edit::Replace(record.clone())).await;
        device.write(&merged, Edit::Upsert(record.clone())).await;
        let sent = device.send().await;
        for entry in &sent[1..] {
            assert_identical(entry.edit.fields(), &record);
        }
        let due = device.due_at(LATE).await.groups;
        assert_identical(due[1][0].edit.fields(), &record);
        device.commit(sent.iter().map(|entry| settle(entry, None)).collect()).await;
    }
}

pub async fn every_value_survives_a_letter_and_the_journal(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    for (id, record) in numbered() {
        device.write(&id, Edit::Upsert(record.clone())).await;
        let sent = device.send_one().await;
        let version = Some(record.clone());
        let conflict = Resolved {
            key: key(&format!("conflict {id}")),
            base: version.clone(),
            mine: version.clone(),
            theirs: version.clone(),
            outcome: version.clone(),
            strategy: StrategyName::Custom,
            at: 1,
            decided_at: 1,
        };
        let receipt = device
            .commit(vec![
                bury(&sent, Revert::To(None)),
                Op::Resolve { conflict: Box::new(conflict), edit: None },
            ])
            .await;
        let journaled = device.replica.conflicts(i64::MAX, 1).await.unwrap().remove(0).resolved.unwrap();
        for side in [journaled.base, journaled.mine, journaled.theirs, journaled.outcome] {
            assert_identical(side.as_ref(), &record);
        }
        let letter = device.replica.dead_letters(receipt.buried[0] - 1, 1).await.unwrap().remove(0);
        assert_identical(letter.edits[0].0.fields(), &record);
        device.commit(vec![Op::Revive { letter: letter.id, at: 0 }]).await;
        assert_identical(device.row(&id).await.as_ref(), &record);
        let sent = device.send_one().await;
        device.commit(vec![settle(&sent, Some(record.clone()))]).await;
        assert_identical(device.row(&id).await.as_ref(), &record);
    }
}

pub async fn every_id_is_a_record_of_its_own(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let ids = write_ids(&device).await;
    for id in &ids {
        assert_eq!(device.row_of(&keyed(id)).await, Some(fields([("is", id.as_str().into())])), "{id:?}");
    }
    assert_eq!(device.due_at(0).await.groups.len(), ids.len());
}

pub async fn every_id_can_be_sent_seen_and_settled(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let ids = write_ids(&device).await;
    let seen = device.replica.records(&name("tasks"), &ids, false).await.unwrap();
    assert_eq!(seen.len(), ids.len());
    for seen in seen {
        assert_eq!(seen.row, Some(fields([("is", seen.id.as_str().into())])));
        assert!(seen.entries.iter().all(|entry| entry.key.id == seen.id));
    }
    let sent = device.send().await;
    assert_eq!(sent.iter().map(|entry| &entry.key.id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    device.commit(sent.iter().map(|entry| settle(entry, None)).collect()).await;
    assert_eq!(device.queue().await, []);
}

/// An adapter may keep some ids for itself: those that begin with the character U+0001.
pub async fn an_id_that_cannot_be_a_record_of_its_own_is_refused(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let mut taken = Vec::new();
    for id in
        ["17", "a", "\u{1}", "\u{1}17", "\u{1}a", "\u{1}\"a\"", "\u{1}\"\"", "\u{1}{\"$blob\":\"YQ==\"}"]
    {
        let write = Op::Write { key: key(id), edit: upsert(json!({"is": id})), at: 0 };
        match device.attempt(vec![write]).await {
            Ok(_) => taken.push(id),
            Err(error) => assert!(
                id.starts_with('\u{1}') && matches!(error, ReplicaError::Invalid(_)),
                "{id:?}: {error}"
            ),
        }
    }
    for id in &taken {
        assert_eq!(
            device.row(id).await,
            Some(fields([("is", (*id).into())])),
            "{id:?} is another record's too"
        );
    }
    assert_eq!(device::ids(&device.queue().await), taken);
}

pub async fn values_and_ids_survive_reopen(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let ids = write_ids(&device).await;
    for (id, record) in numbered() {
        device.write(&format!("value {id}"), Edit::Replace(record)).await;
    }
    let Some(device) = device.reopened(fixture).await else { return };
    let queue = device.queue().await;
    assert_eq!(
        queue[..ids.len()].iter().map(|entry| &entry.key.id).collect::<Vec<_>>(),
        ids.iter().collect::<Vec<_>>()
    );
    for ((id, record), entry) in numbered().zip(&queue[ids.len()..]) {
        assert_identical(device.row(&format!("value {id}")).await.as_ref(), &record);
        assert_identical(entry.edit.fields(), &record);
    }
}
