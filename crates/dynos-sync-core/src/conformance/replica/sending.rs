//! What is due, and entries on their way.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Device, Fixture,
    device::{
        LATE, OTHER, advance, counters, cursor, edits, ids, key, key_in, name, postpone, settle, store, write,
    },
};
use crate::{
    entry::{Edit, Entry, Sent},
    replica::{Due, Expected, Op, Outcome},
};

fn records(due: &Due) -> Vec<String> {
    ids(due.groups.iter().map(|group| &group[0]))
}

async fn write_all(device: &Device, records: &[&str]) {
    for record in records {
        device.write(record, upsert(json!({"a": 1}))).await;
    }
}

pub async fn due_groups_records_in_the_order_of_their_oldest_entries(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_all(&device, &["b", "a", "b", "c", "a"]).await;
    let due = device.due_at(0).await;
    let groups: Vec<Vec<String>> = due.groups.iter().map(ids).collect();
    assert_eq!(groups, [vec!["b", "b"], vec!["a", "a"], vec!["c"]]);
    assert!(due.groups.iter().all(|group| group.is_sorted_by_key(|entry| entry.counter)), "oldest first");
    assert_eq!(due.next_retry, None);
}

pub async fn due_is_bounded_by_records(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_all(&device, &["a", "b", "a", "c"]).await;
    let due = device.due_within(0, 2, usize::MAX).await;
    assert_eq!(
        due.groups.iter().map(Vec::len).collect::<Vec<_>>(),
        [2, 1],
        "records are counted, not entries"
    );
    assert_eq!(records(&device.due_within(0, 1, usize::MAX).await), ["a"]);
}

pub async fn what_is_under_way_and_its_records_can_be_left_out(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_all(&device, &["a", "b"]).await;
    device.send().await;
    write_all(&device, &["b", "c", "d", "c"]).await;
    assert_eq!(records(&device.due_at(0).await), ["a", "b"], "what was sent is asked about first");
    let due = device.due_beside(2, 1000).await;
    assert_eq!(due.groups.iter().map(ids).collect::<Vec<_>>(), [vec!["c", "c"], vec!["d"]]);
    assert_eq!(records(&device.due_beside(2, 1).await), ["c"]);
    device.commit(vec![postpone(&due.groups[0][0], LATE)]).await;
    assert_eq!(
        records(&device.due_beside(2, 1000).await),
        ["d"],
        "what waits is no more ready than otherwise"
    );
    assert_eq!(
        records(&device.due_beside(1, 1000).await),
        [""; 0],
        "something else was sent, too: it goes first"
    );
}

pub async fn due_is_bounded_by_bytes_but_never_empty(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let text = json!({"text": "x".repeat(1000)});
    for record in ["a", "b", "c"] {
        device.write(record, upsert(text.clone())).await;
    }
    let size = text.to_string().len();
    assert_eq!(records(&device.due_within(0, 1000, 2 * size).await), ["a", "b"], "just so many fit");
    assert_eq!(records(&device.due_within(0, 1000, 2500).await), ["a", "b"]);
    assert_eq!(records(&device.due_within(0, 1000, 1500).await), ["a"]);
    assert_eq!(records(&device.due_within(0, 1000, 10).await), ["a"], "a record too large goes alone");
}

/// Records `a` and `b`; `a` was refused and waits until 500.
async fn one_waits(fixture: &dyn Fixture) -> Device {
    let device = Device::new(fixture).await;
    write_all(&device, &["a", "b"]).await;
    let sent = device.send().await;
    device.commit(vec![postpone(&sent[0], 500), Op::Thaw { key: key("b"), counter: sent[1].counter }]).await;
    device
}

pub async fn a_record_is_left_out_until_its_retry(fixture: &dyn Fixture) {
    let device = one_waits(fixture).await;
    assert_eq!(device.due_within(499, 1, usize::MAX).await.next_retry, Some(500), "whatever fits the batch");
    let due = device.due_at(499).await;
    assert_eq!((records(&due), due.next_retry), (vec!["b".to_owned()], Some(500)));
    let due = device.due_at(500).await;
    assert_eq!((records(&due), due.next_retry), (vec!["b".to_owned(), "a".to_owned()], None));
}

pub async fn newer_entries_of_a_waiting_record_wait_too(fixture: &dyn Fixture) {
    let device = one_waits(fixture).await;
    device.write("a", patch(json!({"a": 2}))).await;
    device.write("c", upsert(json!({}))).await;
    assert_eq!(records(&device.due_at(499).await), ["b", "c"]);
    let due = device.due_at(500).await;
    assert_eq!(records(&due), ["b", "a", "c"]);
    assert_eq!(edits(&due.groups[1]), [upsert(json!({"a": 1})), patch(json!({"a": 2}))]);
}

pub async fn sent_entries_come_first_and_alone_until_they_are_settled(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_all(&device, &["a", "b"]).await;
    let sent = device.send().await;
    write_all(&device, &["a", "c"]).await;
    for _ in 0..2 {
        let due = device.due_at(0).await;
        assert_eq!(due.groups, sent.iter().map(|entry| vec![entry.clone()]).collect::<Vec<_>>());
    }
    device.commit(vec![settle(&sent[0], None)]).await;
    assert_eq!(device.due_at(0).await.groups, [vec![sent[1].clone()]]);
    device.commit(vec![settle(&sent[1], None)]).await;
    assert_eq!(records(&device.due_at(0).await), ["a", "c"]);
}

pub async fn sent_entries_are_bounded_too(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    for record in ["a", "b", "c"] {
        device.write(record, upsert(json!({"text": "x".repeat(1000)}))).await;
    }
    device.send().await;
    assert_eq!(records(&device.due_within(0, 2, usize::MAX).await), ["a", "b"]);
    assert_eq!(records(&device.due_within(0, 1000, 1500).await), ["a"]);
}

pub async fn freeze_replaces_the_unsent_entries_up_to_its_own(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("a", upsert(json!({"a": 1}))).await;
    let counter = device.write("a", patch(json!({"b": 2}))).await;
    let planned = Entry {
        edit: upsert(json!({"a": 1, "b": 2})),
        sent: Some(Sent { base: Some(cursor("c")) }),
        ..device.entries("a").await.remove(1)
    };
    let newer = device.write("a", patch(json!({"c": 3}))).await;
    device.commit(vec![Op::Freeze(planned.clone())]).await;
    let entries = device.entries("a").await;
    assert_eq!(counters(&entries), [counter, newer]);
    assert_eq!(entries[0], planned);
    assert_eq!(entries[1].sent, None);
    let state = device.state().await;
    assert_eq!((state.last_sent, state.last_counter), (counter, newer));
    assert_eq!(device.row("a").await, some(json!({"a": 1, "b": 2, "c": 3})), "the row is as it was");
}

pub async fn freeze_is_stale_where_the_entry_has_gone(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_all(&device, &["a", "b"]).await;
    let queue = device.queue().await;
    device.commit(vec![settle(&queue[1], None)]).await;
    let frozen = |entry: &Entry| Op::Freeze(Entry { sent: Some(Sent { base: None }), ..entry.clone() });
    for gone in [vec![frozen(&queue[0]), frozen(&queue[1])], vec![frozen(&queue[1])]] {
        assert_eq!(device.commit_if(Expected::default(), gone).await, Outcome::Stale);
    }
    assert_eq!(device.unsettled().await, [], "the other entry was not marked either");
}

pub async fn freeze_is_stale_where_the_entry_was_sent(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_all(&device, &["a"]).await;
    let sent = device.send_one().await;
    let ops = vec![write("b", upsert(json!({}))), Op::Freeze(sent.clone())];
    assert_eq!(device.commit_if(Expected::default(), ops).await, Outcome::Stale);
    assert_eq!(device.queue().await, [sent]);
    assert_eq!(device.row("b").await, None);
}

pub async fn a_sent_entry_keeps_the_base_it_was_sent_with(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![advance("one", &[])]).await;
    write_all(&device, &["a"]).await;
    let sent = device.send_one().await;
    assert_eq!(sent.sent, Some(Sent { base: Some(cursor("one")) }));
    device.commit(vec![advance("two", &[])]).await;
    device.write("a", patch(json!({"b": 1}))).await;
    assert_eq!(device.due_at(0).await.groups, [vec![sent]]);
}

pub async fn a_thawed_entry_can_be_sent_again_under_its_number(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_all(&device, &["a"]).await;
    let sent = device.send_one().await;
    device.write("a", patch(json!({"b": 2}))).await;
    device.commit(vec![Op::Thaw { key: key("a"), counter: sent.counter }, advance("later", &[])]).await;
    assert_eq!(device.unsettled().await, []);
    let entries = device.entries("a").await;
    assert_eq!((entries[0].counter, &entries[0].sent, entries[0].attempts), (sent.counter, &None, 0));
    let again = device.send_one().await;
    assert_eq!(again.edit, upsert(json!({"a": 1, "b": 2})), "together with what came after it");
    assert_eq!(again.sent, Some(Sent { base: Some(cursor("later")) }));
}

pub async fn thawing_an_unknown_counter_does_nothing(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_all(&device, &["a"]).await;
    let sent = device.send_one().await;
    device.commit(vec![Op::Thaw { key: key("a"), counter: sent.counter + 1000 }]).await;
    assert_eq!(device.unsettled().await, [sent]);
}

pub async fn unsettled_lists_a_tables_sent_entries_oldest_first(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.add(OTHER).await;
    write_all(&device, &["c", "a", "b"]).await;
    device.commit(vec![Op::Write { key: key_in(OTHER, "x"), edit: upsert(json!({})), at: 0 }]).await;
    let sent = device.send().await;
    write_all(&device, &["a", "d"]).await;
    assert_eq!(device.unsettled().await, sent[..3]);
    assert_eq!(device.replica.unsettled(&name(OTHER), 1000).await.unwrap(), sent[3..]);
    assert_eq!(ids(&device.replica.unsettled(&name("tasks"), 2).await.unwrap()), ["c", "a"]);
}

pub async fn sent_entries_survive_reopen(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("b", some(json!({}))), advance("one", &[])]).await;
    write_all(&device, &["a"]).await;
    device.write("b", Edit::Delete).await;
    let sent = device.send().await;
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(device.unsettled().await, sent);
    assert_eq!(device.due_at(LATE).await.groups.concat(), sent);
}
