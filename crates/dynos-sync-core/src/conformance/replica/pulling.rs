//! Cursors, and what pulling a table means.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Device, Fixture,
    device::{
        LATE, OTHER, TABLE, advance, complete, counters, cursor, edits, ids, key, key_in, name, restart,
        settle, store, write,
    },
};
use crate::{
    entry::Edit,
    plan::push,
    replica::{Op, Phase, ReplicaError},
};

const RESTORE: Phase = Phase::Restore { common: 3, own: None };

/// A table that follows the server, with rows `1`, `2` and `3`.
async fn following(fixture: &dyn Fixture) -> Device {
    let device = Device::new(fixture).await;
    let row = |record: &str| store(record, some(json!({"id": record})));
    device.commit(vec![row("1"), row("2"), row("3"), advance("end", &["1", "2", "3"]), complete()]).await;
    device
}

async fn rows(device: &Device) -> Vec<&'static str> {
    let mut rows = Vec::new();
    for record in ["1", "2", "3", "4"] {
        if device.row(record).await.is_some() {
            rows.push(record);
        }
    }
    rows
}

pub async fn a_first_pull_lasts_until_it_is_complete(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({}))), advance("one", &["1"])]).await;
    let table = device.table().await;
    assert_eq!((table.cursor, table.phase, table.synced_at), (Some(cursor("one")), Phase::First, None));
    device.commit(vec![store("2", some(json!({}))), advance("two", &["2"]), complete()]).await;
    let table = device.table().await;
    assert_eq!(
        (table.cursor, table.phase, table.synced_at),
        (Some(cursor("two")), Phase::Following, Some(50))
    );
    assert_eq!(rows(&device).await, ["1", "2"]);
}

pub async fn a_row_and_its_cursor_move_together(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let ops =
        vec![store("1", some(json!({}))), advance("one", &["1"]), complete(), write("2", patch(json!({})))];
    assert!(matches!(device.attempt(ops).await, Err(ReplicaError::NotFound(_))));
    let table = device.table().await;
    assert_eq!((table.cursor, table.phase, device.row("1").await), (None, Phase::First, None));
}

pub async fn skip_moves_only_a_following_table_that_stands_there(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let skip = |from: &str, to: &str| Op::Skip { table: name(TABLE), from: cursor(from), to: cursor(to) };
    device.commit(vec![skip("one", "two"), advance("one", &[]), skip("one", "two")]).await;
    assert_eq!(device.table().await.cursor, Some(cursor("one")), "the first pull is not over");
    device.commit(vec![complete(), skip("zero", "two")]).await;
    assert_eq!(device.table().await.cursor, Some(cursor("one")), "it does not stand there");
    device.commit(vec![skip("one", "two")]).await;
    assert_eq!(device.table().await.cursor, Some(cursor("two")));
    for phase in [Phase::Resync, RESTORE] {
        device.commit(vec![restart(phase), advance("two", &[]), skip("two", "three")]).await;
        assert_eq!(device.table().await.cursor, Some(cursor("two")), "in {phase:?}");
    }
}

pub async fn what_is_filled_in_goes_into_the_row_and_the_base(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    device.write("1", patch(json!({"a": 1}))).await;
    device.write("new", upsert(json!({"a": 1}))).await;
    device.write("2", Edit::Delete).await;
    let fields = some(json!({"b": 2})).unwrap();
    let fill = |id: &str| Op::Fill { key: key(id), base: fields.clone(), row: fields.clone() };
    device.commit(vec![fill("1"), fill("new"), fill("2")]).await;
    assert_eq!(device.base("1").await, some(json!({"a": 0, "b": 2})));
    assert_eq!(device.row("1").await.unwrap()["b"], 2);
    assert_eq!((device.base("new").await, device.row("new").await.unwrap()["b"].clone()), (None, json!(2)));
    assert_eq!((device.base("2").await.unwrap()["b"].clone(), device.row("2").await), (json!(2), None));
    assert_eq!(device.entries("1").await.len(), 1, "it is no edit");
}

pub async fn restart_forgets_the_cursor_of_one_table(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.add(OTHER).await;
    device.commit(vec![Op::Advance { table: name(OTHER), cursor: cursor("other"), seen: vec![] }]).await;
    for phase in [Phase::Resync, RESTORE] {
        device.commit(vec![restart(phase)]).await;
        assert_eq!((device.table().await.cursor, device.table().await.phase), (None, phase));
    }
    assert_eq!(rows(&device).await, ["1", "2", "3"], "rows stay until the end");
    assert_eq!(device.table_named(OTHER).await.cursor, Some(cursor("other")));
}

pub async fn a_place_ahead_is_kept_until_a_pull_has_passed_it(fixture: &dyn Fixture) {
    let skip = |to: &str| Op::Skip { table: name(TABLE), from: cursor("elsewhere"), to: cursor(to) };
    let complete =
        |passed: Option<&str>| Op::Complete { table: name(TABLE), at: 50, passed: passed.map(cursor) };
    let restart = |phase| Op::Restart { table: name(TABLE), phase, ahead: Some(cursor("head")) };
    let device = following(fixture).await;
    device.commit(vec![skip("mine")]).await;
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(device.table().await.ahead, Some(cursor("mine")));
    device.commit(vec![advance("one", &[]), complete(None)]).await;
    assert_eq!(device.table().await.ahead, Some(cursor("mine")), "nobody has asked about it");
    device.commit(vec![advance("two", &[]), complete(Some("older"))]).await;
    assert_eq!(device.table().await.ahead, Some(cursor("mine")), "another place was asked about");
    device.commit(vec![advance("three", &[]), complete(Some("mine"))]).await;
    assert_eq!(device.table().await.ahead, None);
    device.commit(vec![skip("four"), advance("four", &[]), complete(None)]).await;
    assert_eq!(device.table().await.ahead, None, "the pull ended just there");
    for phase in [Phase::Resync, RESTORE] {
        device.commit(vec![restart(phase), advance("one", &[])]).await;
        assert_eq!(device.table().await.ahead, Some(cursor("head")), "in {phase:?}");
    }
}

pub async fn restart_thaws_sent_entries_under_fresh_numbers(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.write("1", patch(json!({"a": 1}))).await;
    device.write("1", patch(json!({"b": 2}))).await;
    for phase in [Phase::Resync, RESTORE] {
        let sent = device.send_one().await;
        device.write("1", patch(json!({"c": 3}))).await;
        let (last, base) = (device.state().await.last_counter, device.base("1").await);
        device.commit(vec![restart(phase)]).await;
        let entries = device.entries("1").await;
        assert_eq!(edits(&entries), [sent.edit.clone(), patch(json!({"c": 3}))]);
        assert!(
            entries[0].counter > last && entries[1].counter > entries[0].counter,
            "{entries:?} after {last}"
        );
        assert!(entries.iter().all(|entry| entry.sent.is_none()));
        assert_eq!((device.unsettled().await, device.base("1").await), (vec![], base));
        device.commit(vec![settle(&sent, None)]).await;
        assert_eq!(device.entries("1").await, entries, "an answer to the old number is passed over");
    }
}

pub async fn restart_keeps_the_order_of_what_was_sent(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    for record in ["3", "1", "2"] {
        device.write(record, patch(json!({"a": 1}))).await;
    }
    device.send().await;
    device.commit(vec![restart(Phase::Resync)]).await;
    assert_eq!(ids(&device.queue().await), ["3", "1", "2"]);
    assert_eq!(ids(device.due_at(LATE).await.groups.iter().flatten()), ["3", "1", "2"]);
}

pub async fn restart_leaves_the_entries_of_other_tables_alone(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.add(OTHER).await;
    device.commit(vec![Op::Write { key: key_in(OTHER, "x"), edit: upsert(json!({})), at: 0 }]).await;
    let sent = device.send_one().await;
    device.write("1", patch(json!({"a": 1}))).await;
    let queue = device.queue().await;
    device.commit(vec![restart(Phase::Resync)]).await;
    assert_eq!(device.replica.unsettled(&name(OTHER), 10).await.unwrap(), [sent]);
    assert_eq!(counters(&device.queue().await)[0], counters(&queue)[0]);
}

pub async fn a_resync_deletes_rows_that_were_not_seen(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.commit(vec![restart(Phase::Resync)]).await;
    device.commit(vec![advance("one", &["1"])]).await;
    device.commit(vec![store("4", some(json!({}))), advance("two", &["4"]), complete()]).await;
    assert_eq!(rows(&device).await, ["1", "4"], "what an earlier page listed counts");
    assert_eq!(device.queue().await, [], "the server has deleted them, not the user");
    assert_eq!(device.table().await.phase, Phase::Following);
}

pub async fn a_resync_keeps_rows_with_pending_entries(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.write("2", patch(json!({"a": 1}))).await;
    device.write("3", Edit::Delete).await;
    let deleted = device.entries("3").await;
    device.commit(vec![restart(Phase::Resync), advance("one", &["1"]), complete()]).await;
    assert_eq!(rows(&device).await, ["1", "2"]);
    assert_eq!(device.entries("3").await, deleted);
    let seen = device.seen("2").await;
    let whole = super::super::replace(json!({"id": "2", "a": 1}));
    assert_eq!((edits(&seen.entries), seen.base), (vec![whole], None), "a patch would find no record");
}

pub async fn a_resync_keeps_what_the_server_acknowledged_meanwhile(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.commit(vec![restart(Phase::Resync)]).await;
    device.write("4", upsert(json!({}))).await;
    let sent = device.send_one().await;
    // The last page was read before the server took the record.
    device.commit(vec![settle(&sent, None)]).await;
    device.commit(vec![advance("one", &["1", "2", "3"]), complete()]).await;
    assert_eq!(rows(&device).await, ["1", "2", "3", "4"]);
}

pub async fn a_resync_that_starts_over_forgets_what_it_saw(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.commit(vec![restart(Phase::Resync), advance("one", &["1", "2"])]).await;
    device.commit(vec![restart(Phase::Resync), advance("two", &["1"]), complete()]).await;
    assert_eq!(rows(&device).await, ["1"]);
    device.commit(vec![restart(Phase::Resync), advance("three", &[]), complete()]).await;
    assert_eq!(rows(&device).await, [""; 0], "so does one that comes after another");
}

pub async fn a_resync_leaves_other_tables_alone(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.add(OTHER).await;
    let other = key_in(OTHER, "1");
    device.commit(vec![Op::Store { key: other.clone(), record: some(json!({})) }]).await;
    let walk = [
        Op::Restart { table: name(OTHER), phase: Phase::Resync, ahead: None },
        Op::Advance { table: name(OTHER), cursor: cursor("other"), seen: vec![other.id.clone()] },
    ];
    device.commit(walk.into()).await;
    device.commit(vec![restart(Phase::Resync), advance("one", &["2"]), complete()]).await;
    assert_eq!(rows(&device).await, ["2"]);
    assert!(device.row_of(&other).await.is_some());
    device.commit(vec![Op::Complete { table: name(OTHER), at: 50, passed: None }]).await;
    assert!(device.row_of(&other).await.is_some(), "what its own resync saw is remembered");
}

pub async fn what_a_resync_saw_survives_reopen(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.commit(vec![restart(Phase::Resync), advance("one", &["1"])]).await;
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(
        (device.table().await.phase, device.table().await.cursor),
        (Phase::Resync, Some(cursor("one")))
    );
    device.commit(vec![advance("two", &["3"]), complete()]).await;
    assert_eq!(rows(&device).await, ["1", "3"]);
}

pub async fn a_restore_offers_rows_that_were_not_seen(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.write("3", Edit::Delete).await;
    device.commit(vec![restart(RESTORE)]).await;
    assert_eq!(device.table().await.phase, RESTORE);
    device.commit(vec![advance("one", &["1"]), complete()]).await;
    assert_eq!(rows(&device).await, ["1", "2"]);
    assert_eq!(device.table().await.phase, Phase::Following);
    assert_eq!(device.entries("1").await, []);
    assert_eq!(edits(&device.entries("3").await), [Edit::Delete]);
    let seen = device.seen("2").await;
    assert_eq!((edits(&seen.entries), seen.base), (vec![super::super::replace(json!({"id": "2"}))], None));
}

pub async fn a_restore_offers_rows_that_were_not_seen_whole_though_a_patch_is_pending(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.write("2", patch(json!({"a": 1}))).await;
    device.commit(vec![restart(RESTORE), advance("one", &["1", "3"]), complete()]).await;
    let row = device.row("2").await;
    assert_eq!(row, some(json!({"id": "2", "a": 1})));
    let prepared = push::prepare(&device.state().await, device.due_at(LATE).await.groups);
    let sent: Vec<_> = prepared.entries.iter().map(|entry| (&entry.key, entry.edit.apply(None))).collect();
    assert_eq!(sent, [(&key("2"), row)], "the server has no record that a patch could apply to");
}

pub async fn following_deletes_nothing(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.commit(vec![advance("one", &["1"]), complete()]).await;
    assert_eq!((rows(&device).await, device.queue().await), (vec!["1", "2", "3"], vec![]));
}

pub async fn the_cursor_survives_reopen(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    let state = device.state().await;
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(device.state().await, state);
}

pub async fn what_a_restored_server_did_not_list_is_the_base_of_no_deletion(fixture: &dyn Fixture) {
    let device = following(fixture).await;
    device.write("1", Edit::Delete).await;
    device.write("2", Edit::Delete).await;
    device.commit(vec![restart(RESTORE), advance("1", &["1", "3"]), complete()]).await;
    assert_eq!(device.base("1").await, some(json!({"id": "1"})));
    assert_eq!(
        device.base("2").await,
        None,
        "to give the deletion up is not to bring back what the server lost"
    );
    assert_eq!(edits(&device.entries("2").await), [Edit::Delete]);
}
