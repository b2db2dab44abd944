//! Edits that take effect on the server together or not at all.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Device, Fixture,
    device::{LATE, OTHER, bury, ids, key, key_in, name, postpone, set_aside, settle, write},
};
use crate::{
    conflict::StrategyName,
    entry::{Edit, Entry},
    replica::{Batch, Due, Op, Outcome, Resolved, Revert},
};

async fn transaction(device: &Device, ops: Vec<Op>) {
    let outcome = device.replica.commit(Batch { ops, transaction: true, ..Batch::default() }).await.unwrap();
    assert!(matches!(outcome, Outcome::Committed(_)));
}

async fn write_together(device: &Device, records: &[&str]) {
    transaction(device, records.iter().map(|record| write(record, upsert(json!({"a": 1})))).collect()).await;
}

/// The records of each group.
fn groups(due: &Due) -> Vec<Vec<String>> {
    due.groups.iter().map(ids).collect()
}

fn one_each(records: &[&str]) -> Vec<Vec<String>> {
    records.iter().map(|record| vec![(*record).to_owned()]).collect()
}

/// The server's version wins, or the local one.
fn resolve(record: &str, edit: Option<Edit>) -> Op {
    let conflict = Resolved {
        key: key(record),
        base: None,
        mine: some(json!({"a": 1})),
        theirs: some(json!({"a": 9})),
        outcome: some(json!({"a": 9})),
        strategy: StrategyName::ServerWins,
        at: 1,
        decided_at: 1,
    };
    Op::Resolve { conflict: Box::new(conflict), edit }
}

fn transactions(entries: &[Entry]) -> Vec<Option<u64>> {
    entries.iter().map(|entry| entry.transaction).collect()
}

pub async fn a_transactions_entries_say_so_and_others_do_not(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("a", upsert(json!({}))).await;
    write_together(&device, &["b", "c"]).await;
    write_together(&device, &["d"]).await;
    let [a, b, c, d] = transactions(&device.queue().await)[..] else { panic!("four entries") };
    assert_eq!(a, None);
    assert!(b.is_some() && b == c && d.is_some() && d != b, "{b:?} {c:?} {d:?}");
}

pub async fn a_transaction_is_due_as_a_whole(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.add(OTHER).await;
    device.write("z", upsert(json!({}))).await;
    let elsewhere = Op::Write { key: key_in(OTHER, "o"), edit: upsert(json!({})), at: 0 };
    transaction(&device, vec![write("a", upsert(json!({}))), elsewhere, write("b", upsert(json!({})))]).await;
    assert_eq!(groups(&device.due_at(0).await), one_each(&["z", "a", "o", "b"]));
    assert_eq!(
        groups(&device.due_within(0, 3, usize::MAX).await),
        one_each(&["z"]),
        "it does not fit beside"
    );
    let z = device.due_at(0).await.groups.remove(0).remove(0);
    device.commit(vec![settle(&z, None)]).await;
    assert_eq!(groups(&device.due_within(0, 1, 1).await), one_each(&["a", "o", "b"]), "it is never cut");
}

pub async fn a_transaction_is_no_part_of_a_group(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("a", upsert(json!({"n": 1}))).await;
    device.write("a", patch(json!({"n": 2}))).await;
    transaction(&device, vec![write("a", patch(json!({"n": 3}))), write("a", patch(json!({"n": 4})))]).await;
    device.write("a", patch(json!({"n": 5}))).await;
    for size in [2, 2, 1] {
        let due = device.due_at(0).await;
        assert_eq!(due.groups.iter().map(Vec::len).collect::<Vec<_>>(), [size]);
        let sent = device.send_one().await;
        device.commit(vec![settle(&sent, None)]).await;
    }
    assert!(device.queue().await.is_empty());
}

pub async fn a_transaction_waits_for_what_came_before_in_any_of_its_records(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("b", upsert(json!({}))).await;
    write_together(&device, &["a", "b"]).await;
    write_together(&device, &["c", "a"]).await;
    device.write("d", upsert(json!({}))).await;
    for expected in [&["b", "d"][..], &["a", "b"], &["c", "a"], &[]] {
        assert_eq!(groups(&device.due_at(0).await), one_each(expected));
        for entry in device.send().await {
            device.commit(vec![settle(&entry, None)]).await;
        }
    }
}

pub async fn a_transaction_waits_where_one_of_its_records_does(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_together(&device, &["a", "b"]).await;
    let sent = device.send().await;
    device.commit(sent.iter().map(|entry| postpone(entry, 500)).collect()).await;
    assert_eq!(groups(&device.due_at(499).await), one_each(&[]));
    let due = device.due_at(500).await;
    assert_eq!(groups(&due), one_each(&["a", "b"]));
    let [a, b] = &due.groups[..] else { panic!("{due:?}") };
    assert!(a[0].transaction.is_some() && a[0].transaction == b[0].transaction, "it is one still");
    assert_eq!((a[0].attempts, b[0].attempts), (1, 1));
}

pub async fn a_transaction_that_was_sent_is_sent_again_as_a_whole(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_together(&device, &["a", "b"]).await;
    let sent = device.send().await;
    assert_eq!(
        sent.iter().map(|entry| entry.transaction).collect::<Vec<_>>(),
        transactions(&device.queue().await)
    );
    device.write("a", patch(json!({"n": 2}))).await;
    assert_eq!(groups(&device.due_within(0, 1, 1).await), one_each(&["a", "b"]));
    // A page has settled one of them.
    device.commit(vec![settle(&sent[0], None)]).await;
    assert_eq!(groups(&device.due_at(0).await), one_each(&["b"]));
    device.commit(vec![settle(&sent[1], None)]).await;
    assert_eq!(groups(&device.due_at(0).await), one_each(&["a"]));
}

pub async fn the_outcome_of_a_conflict_is_a_part_of_the_transaction(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_together(&device, &["a", "b"]).await;
    device.commit(vec![resolve("a", Some(patch(json!({"a": 1}))))]).await;
    let due = device.due_at(0).await;
    let mut records = groups(&due);
    records.sort();
    assert_eq!(records, one_each(&["a", "b"]));
    let labels = transactions(&device.queue().await);
    assert!(labels[0].is_some() && labels[0] == labels[1], "{labels:?}");
}

pub async fn where_the_servers_version_stays_the_rest_goes_on_alone(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("z", upsert(json!({}))).await;
    write_together(&device, &["z", "b"]).await;
    assert_eq!(groups(&device.due_at(0).await), one_each(&["z"]));
    device.commit(vec![resolve("z", None)]).await;
    assert_eq!(groups(&device.due_at(0).await), one_each(&["b"]));
}

pub async fn a_conflict_over_several_transactions_makes_them_one(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_together(&device, &["a", "b"]).await;
    write_together(&device, &["b", "c"]).await;
    device.write("b", patch(json!({"n": 1}))).await;
    write_together(&device, &["a", "c"]).await;
    write_together(&device, &["c", "d"]).await;
    // Of a, edits of the first and of the third become one. The second lies between those two.
    device.commit(vec![resolve("a", Some(patch(json!({"a": 1}))))]).await;
    let due = device.due_at(0).await;
    let mut sizes: Vec<(String, usize)> =
        due.groups.iter().map(|group| (group[0].key.id.to_string(), group.len())).collect();
    sizes.sort();
    assert_eq!(sizes, [("a".to_owned(), 1), ("b".to_owned(), 2), ("c".to_owned(), 2)], "{due:?}");
    for entry in device.send().await {
        device.commit(vec![settle(&entry, None)]).await;
    }
    let mut last = groups(&device.due_at(0).await);
    last.sort();
    assert_eq!(last, one_each(&["b", "c", "d"]), "what came after them comes after them");
}

pub async fn a_transaction_stays_one_without_what_is_set_aside(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_together(&device, &["a", "b", "c"]).await;
    let sent = device.send().await;
    device.write("b", patch(json!({"n": 1}))).await;
    device
        .commit(vec![set_aside(&sent[0], &[]), set_aside(&sent[1], &["a"]), set_aside(&sent[2], &[])])
        .await;
    assert_eq!(groups(&device.due_at(0).await), one_each(&["a", "b", "c"]), "at once, and whole");
    let again = device.send().await;
    let label = again[0].transaction;
    assert!(label.is_some() && again.iter().all(|entry| entry.transaction == label));
    assert_eq!(again.iter().map(|entry| entry.edit.clone()).collect::<Vec<_>>()[1], upsert(json!({})));
    device.commit(again.iter().map(|entry| settle(entry, None)).collect()).await;
    assert_eq!(groups(&device.due_at(0).await), one_each(&["b"]), "what was written since is by itself");
}

pub async fn a_refused_transaction_is_given_up_as_a_whole_and_taken_up_as_one(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_together(&device, &["a", "b"]).await;
    device.write("a", patch(json!({"n": 2}))).await;
    let sent = device.send().await;
    device.commit(sent.iter().map(|entry| bury(entry, Revert::ToBase)).collect()).await;
    assert!(device.queue().await.is_empty());
    assert_eq!((device.row("a").await, device.row("b").await), (None, None));
    let letters = device.replica.dead_letters(0, 10).await.unwrap();
    let edits: Vec<usize> = letters.iter().map(|letter| letter.edits.len()).collect();
    assert_eq!(edits, [2, 1], "what was made on top goes with it");
    assert!(letters[0].transaction.is_some() && letters[0].transaction == letters[1].transaction);

    device.commit(vec![Op::Revive { letter: letters[1].id, at: 5 }]).await;
    assert!(device.replica.dead_letters(0, 10).await.unwrap().is_empty());
    assert_eq!(device.row("a").await, some(json!({"a": 1, "n": 2})));
    assert_eq!(groups(&device.due_at(LATE).await), [vec!["a", "a"], vec!["b"]]);
    let labels = transactions(&device.queue().await);
    assert!(labels[0].is_some() && labels.iter().all(|label| *label == labels[0]), "{labels:?}");
}

pub async fn discarding_a_letter_discards_its_transaction(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    write_together(&device, &["a", "b"]).await;
    device.write("c", upsert(json!({}))).await;
    let sent = device.send().await;
    device.commit(sent.iter().map(|entry| bury(entry, Revert::ToBase)).collect()).await;
    let letters = device.replica.dead_letters(0, 10).await.unwrap();
    device.commit(vec![Op::Discard { letter: letters[0].id }]).await;
    assert_eq!(ids_of(&device).await, ["c"]);
}

async fn ids_of(device: &Device) -> Vec<String> {
    let letters = device.replica.dead_letters(0, 10).await.unwrap();
    letters.iter().map(|letter| letter.key.id.to_string()).collect()
}

pub async fn what_is_given_up_takes_no_part_of_another_transaction_with_it(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("a", upsert(json!({"n": 1}))).await;
    let first = device.send_one().await;
    transaction(&device, vec![write("a", patch(json!({"n": 2}))), write("b", upsert(json!({})))]).await;
    device.write("a", patch(json!({"m": 3}))).await;
    device.commit(vec![bury(&first, Revert::To(some(json!({"n": 9, "k": 9}))))]).await;
    assert_eq!(
        device.row("a").await,
        some(json!({"n": 2, "m": 3, "k": 9})),
        "made again on the server's version"
    );
    assert_eq!(device.base("a").await, some(json!({"n": 9, "k": 9})));
    assert_eq!(groups(&device.due_at(0).await), one_each(&["a", "b"]));
}

pub async fn what_stays_of_a_record_that_is_given_up_creates_it(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("a", upsert(json!({"n": 1}))).await;
    let first = device.send_one().await;
    transaction(&device, vec![write("a", patch(json!({"m": 2}))), write("b", upsert(json!({})))]).await;
    device.write("a", patch(json!({"k": 3}))).await;
    device.commit(vec![bury(&first, Revert::ToBase)]).await;
    assert_eq!(device.row("a").await, some(json!({"m": 2, "k": 3})), "not lost without a word");
    let sent = device.send().await;
    assert!(matches!(&sent[0].edit, Edit::Upsert(fields) if fields["m"] == 2), "{sent:?}");
}

pub async fn what_follows_a_transaction_that_failed_is_no_part_of_it(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.add(OTHER).await;
    device.commit(vec![Op::Store { key: key_in(OTHER, "o"), record: some(json!({"a": 1})) }]).await;
    assert!(device.replica.remove_table(&name(OTHER)).await.unwrap());
    let ops = vec![write("none", patch(json!({"a": 1})))];
    assert!(device.replica.commit(Batch { ops, transaction: true, ..Batch::default() }).await.is_err());
    device.add(OTHER).await;
    assert_eq!(transactions(&device.queue().await), [None]);
}

pub async fn a_transaction_survives_reopen(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("a", upsert(json!({}))).await;
    write_together(&device, &["b", "a"]).await;
    assert_eq!(groups(&device.due_at(0).await), one_each(&["a"]));
    let Some(device) = device.reopened(fixture).await else { return };
    let sent = device.send_one().await;
    device.commit(vec![settle(&sent, None)]).await;
    assert_eq!(groups(&device.due_at(0).await), one_each(&["b", "a"]));
}
