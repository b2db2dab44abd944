//! Entries that the server refused: their retries and the dead letters.

use serde_json::{Value, json};

use super::{
    super::{patch, some, upsert},
    Device, Fixture,
    device::{bury, counters, edits, key, postpone, set_aside, settle, store, write},
};
use crate::{
    entry::{Edit, Entry},
    replica::{DeadLetter, DueLimits, Op, Revert},
};

/// A record `{a: 0}` from the server, its patch `{a: 1}` sent, and a newer patch `{b: 2}`.
async fn refused(fixture: &dyn Fixture) -> (Device, Entry) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    device.write("1", patch(json!({"a": 1}))).await;
    let sent = device.send_one().await;
    device.write("1", patch(json!({"b": 2}))).await;
    (device, sent)
}

async fn letters(device: &Device) -> Vec<DeadLetter> {
    device.replica.dead_letters(0, 1000).await.unwrap()
}

/// Writes `edit` to a record that the server has as `{a: 0}`, and buries it.
async fn buried(fixture: &dyn Fixture, edit: Edit, revert: Revert) -> (Device, i64) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    device.write("1", edit).await;
    let sent = device.send_one().await;
    let receipt = device.commit(vec![bury(&sent, revert)]).await;
    let letter = letters(&device).await.remove(0);
    assert_eq!(receipt.buried, [letter.id]);
    (device, letter.id)
}

pub async fn a_postponed_record_takes_fresh_numbers_in_the_same_order(fixture: &dyn Fixture) {
    let (device, sent) = refused(fixture).await;
    let (last, base) = (device.state().await.last_counter, device.base("1").await);
    device.commit(vec![postpone(&sent, 500)]).await;
    let entries = device.entries("1").await;
    assert_eq!(edits(&entries), [patch(json!({"a": 1})), patch(json!({"b": 2}))]);
    let fresh = counters(&entries);
    assert!(last < fresh[0] && fresh[0] < fresh[1], "{fresh:?} after {last}");
    assert_eq!(device.state().await.last_counter, fresh[1]);
    assert!(entries.iter().all(|entry| entry.sent.is_none()));
    assert_eq!((entries[0].attempts, entries[0].retry_at), (1, Some(500)));
    assert_eq!(device.base("1").await, base);
    assert_eq!(device.row("1").await, some(json!({"a": 1, "b": 2})));
}

pub async fn each_postponement_counts_an_attempt(fixture: &dyn Fixture) {
    let (device, mut sent) = refused(fixture).await;
    for attempts in 1..=3 {
        device.commit(vec![postpone(&sent, 500)]).await;
        sent = device.send_one().await;
        assert_eq!(sent.attempts, attempts);
    }
    assert_eq!(sent.edit, patch(json!({"a": 1, "b": 2})), "the retry takes the newer edit along");
    device.commit(vec![settle(&sent, None)]).await;
    device.write("1", patch(json!({"a": 5}))).await;
    assert_eq!(device.entries("1").await[0].attempts, 0, "another edit starts with none");
}

pub async fn postponing_an_unknown_counter_does_nothing(fixture: &dyn Fixture) {
    let (device, sent) = refused(fixture).await;
    let (state, seen) = (device.state().await, device.seen("1").await);
    let postpone = |record: &str, counter| Op::Postpone { key: key(record), counter, retry_at: 500 };
    device.commit(vec![postpone("1", sent.counter + 1000), postpone("2", sent.counter)]).await;
    assert_eq!((device.state().await, device.seen("1").await), (state, seen));
}

pub async fn a_buried_record_gives_up_all_of_its_entries(fixture: &dyn Fixture) {
    let (device, sent) = refused(fixture).await;
    let times = device.entries("1").await.iter().map(|entry| entry.at).collect::<Vec<_>>();
    device.write("2", upsert(json!({}))).await;
    let receipt = device.commit(vec![bury(&sent, Revert::Keep)]).await;
    let letter = DeadLetter {
        id: receipt.buried[0],
        key: key("1"),
        edits: vec![(patch(json!({"a": 1})), times[0]), (patch(json!({"b": 2})), times[1])],
        code: "constraint".into(),
        message: "no".into(),
        at: 77,
        transaction: None,
    };
    assert_eq!(letters(&device).await, [letter]);
    assert_eq!(device.entries("1").await, []);
    assert_eq!(device.state().await.pending, 1, "the other record's");
}

pub async fn a_buried_record_can_take_the_servers_version(fixture: &dyn Fixture) {
    let theirs = some(json!({"a": 7}));
    let (device, _) = buried(fixture, patch(json!({"a": 1})), Revert::To(theirs.clone())).await;
    assert_eq!(device.row("1").await, theirs);
}

pub async fn a_buried_record_can_disappear_as_on_the_server(fixture: &dyn Fixture) {
    let (device, _) = buried(fixture, patch(json!({"a": 1})), Revert::To(None)).await;
    assert_eq!(device.row("1").await, None);
}

pub async fn a_buried_record_can_return_to_its_base(fixture: &dyn Fixture) {
    let (device, _) = buried(fixture, Edit::Delete, Revert::ToBase).await;
    assert_eq!(device.row("1").await, some(json!({"a": 0})));
    device.write("new", upsert(json!({}))).await;
    let sent = device.send_one().await;
    device.commit(vec![bury(&sent, Revert::ToBase)]).await;
    assert_eq!(device.row("new").await, None, "before it was created there was nothing");
}

pub async fn a_buried_record_can_stay_as_it_is(fixture: &dyn Fixture) {
    let (device, _) = buried(fixture, patch(json!({"a": 1})), Revert::Keep).await;
    assert_eq!(device.row("1").await, some(json!({"a": 1})));
    device.write("1", patch(json!({"b": 2}))).await;
    assert_eq!(device.base("1").await, some(json!({"a": 1})), "nothing older is pending");
}

pub async fn burying_an_unknown_counter_does_nothing(fixture: &dyn Fixture) {
    let (device, sent) = refused(fixture).await;
    let (state, seen) = (device.state().await, device.seen("1").await);
    let gone = Entry { counter: sent.counter + 1000, ..sent.clone() };
    let elsewhere = Entry { key: key("2"), ..sent };
    let receipt =
        device.commit(vec![bury(&gone, Revert::To(None)), bury(&elsewhere, Revert::To(None))]).await;
    assert_eq!(receipt.buried, [0_i64; 0]);
    assert_eq!((device.state().await, device.seen("1").await), (state, seen));
}

pub async fn fields_that_are_set_aside_leave_the_rest_to_be_sent(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    device.write("1", upsert(json!({"a": 1, "x": 1}))).await;
    let sent = device.send_one().await;
    device.write("1", patch(json!({"b": 2, "x": 2, "y": 2}))).await;
    let (before, row) = (device.entries("1").await, device.row("1").await);
    let (last, base) = (device.state().await.last_counter, device.base("1").await);
    let receipt = device.commit(vec![set_aside(&sent, &["x", "y", "z"])]).await;
    let entries = device.entries("1").await;
    assert_eq!(edits(&entries), [upsert(json!({"a": 1})), patch(json!({"b": 2}))]);
    let times = |entries: &[Entry]| entries.iter().map(|entry| entry.at).collect::<Vec<_>>();
    assert_eq!(times(&entries), times(&before));
    assert!(entries.iter().all(|entry| entry.counter > last && entry.sent.is_none()));
    assert_eq!((entries[0].attempts, entries[0].retry_at), (0, None));
    assert_eq!((device.row("1").await, device.base("1").await), (row, base), "the row keeps them");
    assert_eq!(device.state().await.pending, 2);
    let letter = DeadLetter {
        id: receipt.buried[0],
        key: key("1"),
        edits: vec![(patch(json!({"x": 1})), before[0].at), (patch(json!({"x": 2, "y": 2})), before[1].at)],
        code: DeadLetter::SET_ASIDE.into(),
        message: "no".into(),
        at: 77,
        transaction: None,
    };
    assert_eq!(letters(&device).await, [letter]);
    let again = device.send_one().await;
    assert_eq!(again.edit, upsert(json!({"a": 1, "b": 2})));
    device.commit(vec![settle(&again, None)]).await;
    assert_eq!(device.row("1").await, some(json!({"a": 1, "b": 2, "x": 2, "y": 2})));
}

pub async fn a_patch_of_nothing_else_leaves_the_queue_with_what_is_set_aside(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    for (record, edit) in [("1", patch(json!({"x": 1}))), ("new", upsert(json!({"x": 1})))] {
        device.write(record, edit).await;
        let sent = device.send_one().await;
        device.commit(vec![set_aside(&sent, &["x"])]).await;
    }
    assert_eq!((device.entries("1").await, device.base("1").await), (vec![], None));
    assert_eq!(edits(&device.entries("new").await), [upsert(json!({}))], "a record is to be made yet");
    assert_eq!((device.state().await.pending, letters(&device).await.len()), (1, 2));
    assert_eq!(device.row("1").await, some(json!({"a": 0, "x": 1})));
}

pub async fn setting_nothing_aside_renumbers(fixture: &dyn Fixture) {
    let (device, sent) = refused(fixture).await;
    let last = device.state().await.last_counter;
    let receipt = device.commit(vec![set_aside(&sent, &[])]).await;
    let entries = device.entries("1").await;
    assert_eq!(edits(&entries), [patch(json!({"a": 1})), patch(json!({"b": 2}))]);
    assert!(entries.iter().all(|entry| entry.counter > last && entry.sent.is_none()));
    assert_eq!((receipt.buried, letters(&device).await), (vec![], vec![]));
}

pub async fn setting_aside_for_an_unknown_counter_does_nothing(fixture: &dyn Fixture) {
    let (device, sent) = refused(fixture).await;
    let (state, seen) = (device.state().await, device.seen("1").await);
    let gone = Entry { counter: sent.counter + 1000, ..sent.clone() };
    let elsewhere = Entry { key: key("2"), ..sent };
    let receipt = device.commit(vec![set_aside(&gone, &["a"]), set_aside(&elsewhere, &["a"])]).await;
    assert_eq!(receipt.buried, [0_i64; 0]);
    assert_eq!((device.state().await, device.seen("1").await), (state, seen));
}

pub async fn what_was_set_aside_can_be_taken_up_again(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1, "x": 1}))).await;
    let sent = device.send_one().await;
    let letter = device.commit(vec![set_aside(&sent, &["x"])]).await.buried[0];
    let sent = device.send_one().await;
    device.commit(vec![settle(&sent, None)]).await;
    device.commit(vec![Op::Revive { letter, at: 900 }]).await;
    assert_eq!(edits(&device.entries("1").await), [patch(json!({"x": 1}))]);
    assert_eq!(letters(&device).await, []);
}

pub async fn a_revived_letter_is_written_and_queued_again(fixture: &dyn Fixture) {
    let (device, sent) = refused(fixture).await;
    let receipt = device.commit(vec![bury(&sent, Revert::To(some(json!({"a": 7, "c": 7}))))]).await;
    let last = device.state().await.last_counter;
    device.commit(vec![Op::Revive { letter: receipt.buried[0], at: 900 }]).await;
    let seen = device.seen("1").await;
    assert_eq!(seen.row, some(json!({"a": 1, "b": 2, "c": 7})));
    assert_eq!(seen.base, some(json!({"a": 7, "c": 7})));
    assert_eq!(edits(&seen.entries), [patch(json!({"a": 1})), patch(json!({"b": 2}))]);
    assert!(seen.entries[0].counter > last && seen.entries[0].at >= 900, "they are new edits");
    assert_eq!((seen.entries[0].attempts, seen.entries[0].retry_at), (0, None));
    assert_eq!(letters(&device).await, []);
}

pub async fn a_revived_patch_of_a_record_that_has_gone_creates_it(fixture: &dyn Fixture) {
    let (device, letter) = buried(fixture, patch(json!({"a": 1})), Revert::To(None)).await;
    device.commit(vec![Op::Revive { letter, at: 900 }]).await;
    assert_eq!(device.row("1").await, some(json!({"a": 1})));
    assert_eq!(edits(&device.entries("1").await), [upsert(json!({"a": 1}))]);
}

pub async fn a_revived_delete_is_queued_though_the_row_has_gone(fixture: &dyn Fixture) {
    let (device, letter) = buried(fixture, Edit::Delete, Revert::Keep).await;
    assert_eq!(device.row("1").await, None);
    device.commit(vec![Op::Revive { letter, at: 900 }]).await;
    assert_eq!(edits(&device.entries("1").await), [Edit::Delete], "the server still has the record");
}

pub async fn a_discarded_letter_is_gone(fixture: &dyn Fixture) {
    let (device, letter) = buried(fixture, patch(json!({"a": 1})), Revert::Keep).await;
    device.commit(vec![Op::Discard { letter }]).await;
    assert_eq!(letters(&device).await, []);
    assert_eq!((device.row("1").await, device.queue().await), (some(json!({"a": 1})), vec![]));
}

pub async fn an_unknown_letter_changes_nothing(fixture: &dyn Fixture) {
    let (device, letter) = buried(fixture, patch(json!({"a": 1})), Revert::Keep).await;
    let before = (device.state().await, letters(&device).await);
    for op in [Op::Revive { letter: letter + 1000, at: 1 }, Op::Discard { letter: letter + 1000 }] {
        // Whether it is passed over or named as a fault is the replica's.
        drop(device.attempt(vec![op]).await);
        assert_eq!((device.state().await, letters(&device).await), before);
    }
}

pub async fn dead_letters_are_read_in_pages_oldest_first(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    for record in ["c", "a", "b"] {
        device.commit(vec![write(record, upsert(json!({})))]).await;
        let sent = device.send_one().await;
        device.commit(vec![bury(&sent, Revert::Keep)]).await;
    }
    let all = letters(&device).await;
    let order: Vec<Value> = all.iter().map(|letter| letter.key.id.as_str().into()).collect();
    assert_eq!(order, ["c", "a", "b"]);
    assert!(all.is_sorted_by_key(|letter| letter.id));
    assert_eq!(device.replica.dead_letters(0, 2).await.unwrap(), all[..2]);
    assert_eq!(device.replica.dead_letters(all[1].id, 2).await.unwrap(), all[2..]);
    assert_eq!(device.replica.dead_letters(all[2].id, 2).await.unwrap(), []);
}

pub async fn dead_letters_survive_reopen(fixture: &dyn Fixture) {
    let (device, letter) = buried(fixture, patch(json!({"a": 1})), Revert::ToBase).await;
    let (all, state) = (letters(&device).await, device.state().await);
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!((letters(&device).await, device.state().await), (all, state));
    device.commit(vec![Op::Revive { letter, at: 900 }]).await;
    assert_eq!(device.row("1").await, some(json!({"a": 1})));
}

/// The clock was far ahead when the record was refused, and was set back then.
pub async fn a_refused_record_waits_no_longer_than_the_longest_wait(fixture: &dyn Fixture) {
    let (device, sent) = refused(fixture).await;
    device.commit(vec![postpone(&sent, 1_000_000)]).await;
    let due = async |longest_wait| {
        let limits = DueLimits { now: 500, longest_wait, records: 10, bytes: 1000, under_way: 0 };
        device.replica.due(&limits).await.unwrap().groups.len()
    };
    assert_eq!(due(999_500).await, 0);
    assert_eq!(due(999_499).await, 1);
}
