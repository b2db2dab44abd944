//! What entries do.

use serde_json::json;

use super::{
    super::{patch, replace, some, upsert},
    Client, Fixture,
    client::{OTHER, TABLE, applied, entry, name},
};
use crate::{
    entry::Edit,
    error::Limits,
    wire::{Current, PushEntry, PushResult, RejectCode},
};

fn rejected(result: &PushResult) -> RejectCode {
    match result {
        PushResult::Rejected { code, .. } => *code,
        other => panic!("not rejected: {other:?}"),
    }
}

pub async fn applied_changes_are_numbered_upwards(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let mut last = 0;
    for (client, entries) in [
        (
            &one,
            vec![
                entry(1, "x", upsert(json!({}))),
                entry(2, "y", upsert(json!({}))),
                entry(3, "x", Edit::Delete),
            ],
        ),
        (&two, vec![entry(1, "z", upsert(json!({})))]),
        (&one, vec![PushEntry { table: name(OTHER), ..entry(4, "x", upsert(json!({}))) }]),
    ] {
        for result in client.push(entries).await.results {
            let seq = applied(&result);
            assert!(seq > last, "{seq} follows {last}");
            last = seq;
        }
    }
}

pub async fn an_upsert_merges_its_fields(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    client.apply(entry(1, "x", upsert(json!({"a": 1, "b": {"c": 1, "d": 1}})))).await;
    client.apply(entry(2, "x", upsert(json!({"b": {"c": 2}, "e": null})))).await;
    assert_eq!(
        client.record("x").await,
        some(json!({"a": 1, "b": {"c": 2}, "e": null})),
        "field by field, not deeper"
    );
}

pub async fn a_replace_resets_what_it_does_not_name(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    client.apply(entry(1, "x", upsert(json!({"a": 1, "b": 1})))).await;
    client.apply(entry(2, "x", replace(json!({"b": 2})))).await;
    client.apply(entry(3, "new", replace(json!({"c": 3})))).await;
    assert_eq!(client.record("x").await, some(json!({"b": 2})));
    assert_eq!(client.record("new").await, some(json!({"c": 3})));
}

pub async fn a_patch_sets_only_its_fields(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    client.apply(entry(1, "x", upsert(json!({"a": 1, "b": 1})))).await;
    client.apply(entry(2, "x", patch(json!({"b": null})))).await;
    client.apply(entry(3, "x", patch(json!({})))).await;
    assert_eq!(client.record("x").await, some(json!({"a": 1, "b": null})));
}

pub async fn a_delete_travels(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    let seen = two.pull(None).await.next;
    let seq = one.apply(entry(2, "x", Edit::Delete)).await;
    let page = two.pull(Some(&seen)).await;
    let [deletion] = &page.changes[..] else { panic!("one change: {page:?}") };
    assert_eq!((deletion.id.as_str(), deletion.seq, &deletion.record), ("x", seq, &None));
    assert_eq!(one.record("x").await, None);
}

pub async fn a_delete_of_a_record_that_never_was_travels_too(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let seen = two.head().await;
    one.apply(entry(1, "x", Edit::Delete)).await;
    let page = two.pull(Some(&seen)).await;
    assert_eq!((page.changes.len(), &page.changes[0].record), (1, &None));
}

pub async fn an_upsert_after_a_delete_starts_from_nothing(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    client.push(vec![entry(1, "x", upsert(json!({"a": 1}))), entry(2, "x", Edit::Delete)]).await;
    client.apply(entry(3, "x", upsert(json!({"b": 1})))).await;
    assert_eq!(client.record("x").await, some(json!({"b": 1})));
}

pub async fn a_patch_of_a_missing_record_is_rejected(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    client.push(vec![entry(1, "deleted", upsert(json!({}))), entry(2, "deleted", Edit::Delete)]).await;
    for (counter, id) in [(3, "never"), (4, "deleted")] {
        let result = client.push_one(entry(counter, id, patch(json!({"a": 1})))).await;
        let PushResult::Rejected { code: RejectCode::NotFound, current, .. } = result else {
            panic!("{id}: {result:?}")
        };
        assert_eq!(current, Some(Current { record: None }), "the device learns that there is none");
        assert_eq!(client.record(id).await, None);
    }
}

pub async fn an_entry_for_an_unknown_table_is_rejected(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    for (counter, edit) in [(1, upsert(json!({}))), (2, replace(json!({}))), (3, Edit::Delete)] {
        let unknown = PushEntry { table: name("undeclared"), ..entry(counter, "x", edit) };
        assert_eq!(rejected(&client.push_one(unknown).await), RejectCode::UnknownTable);
    }
}

pub async fn an_edit_time_out_of_range_is_rejected(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    for (counter, at) in [(1, -1), (2, Limits::LATEST + 1), (3, i64::MIN), (4, i64::MAX)] {
        let result = client.push_one(PushEntry { at, ..entry(counter, "x", upsert(json!({}))) }).await;
        assert_eq!(rejected(&result), RejectCode::Invalid, "{at}");
    }
    for (counter, at) in [(5, 0), (6, Limits::LATEST)] {
        client.apply(PushEntry { at, ..entry(counter, "x", upsert(json!({}))) }).await;
    }
}

pub async fn one_bad_entry_never_blocks_the_others(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    two.apply(entry(1, "theirs", upsert(json!({"a": 1})))).await;
    let answer = one
        .push(vec![
            entry(1, "x", upsert(json!({"a": 1}))),
            entry(2, "missing", patch(json!({"a": 1}))),
            PushEntry { table: name("undeclared"), ..entry(3, "x", upsert(json!({}))) },
            entry(4, "theirs", upsert(json!({"a": 2}))),
            entry(1, "x", upsert(json!({"a": 1}))),
            entry(5, "y", upsert(json!({"a": 1}))),
        ])
        .await;
    let kinds = answer.results.iter().map(|result| match result {
        PushResult::Applied { .. } => "applied",
        PushResult::Duplicate { .. } => "duplicate",
        PushResult::Conflict { .. } => "conflict",
        PushResult::Rejected { .. } => "rejected",
    });
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        ["applied", "rejected", "rejected", "conflict", "duplicate", "applied"]
    );
    let ids: Vec<String> = one.contents_of(TABLE).await.keys().map(ToString::to_string).collect();
    assert_eq!(ids, ["theirs", "x", "y"]);
    assert_eq!(one.record("theirs").await, some(json!({"a": 1})));
}

pub async fn entries_of_a_record_take_effect_in_their_order(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let entries = vec![
        entry(1, "x", upsert(json!({"a": 1, "b": 1}))),
        entry(2, "y", upsert(json!({"a": 9}))),
        entry(3, "x", patch(json!({"a": 2}))),
        entry(4, "x", patch(json!({"a": 3, "c": 3}))),
    ];
    assert!(client.push(entries).await.results.iter().map(applied).is_sorted());
    assert_eq!(client.record("x").await, some(json!({"a": 3, "b": 1, "c": 3})));
}

pub async fn a_batch_may_delete_create_and_delete(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    let seen = two.pull(None).await.next;
    let entries = vec![
        entry(2, "x", Edit::Delete),
        entry(3, "x", upsert(json!({"b": 1}))),
        entry(4, "x", Edit::Delete),
    ];
    let results = one.push(entries).await.results;
    let seqs: Vec<u64> = results.iter().map(applied).collect();
    assert!(seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");
    let page = two.pull(Some(&seen)).await;
    let changes: Vec<_> = page.changes.iter().map(|change| (change.seq, &change.record)).collect();
    assert_eq!(changes, [(seqs[2], &None)]);
}

pub async fn a_push_tells_how_the_head_moved(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let empty = one.head().await;
    let first =
        one.push(vec![entry(1, "x", upsert(json!({}))), entry(2, "y", upsert(json!({})))]).await.heads;
    let moved = &first[&name(TABLE)];
    assert_eq!((&moved.before, &moved.after), (&empty, &one.head().await));
    two.apply(entry(1, "z", upsert(json!({})))).await;
    let between = one.head().await;
    let second = one.push(vec![entry(3, "x", Edit::Delete)]).await.heads;
    let moved = &second[&name(TABLE)];
    assert_eq!(
        (&moved.before, &moved.after),
        (&between, &two.head().await),
        "the other's change lies before it"
    );
    assert_eq!(one.pull(Some(&moved.after)).await.changes, []);
}

pub async fn what_is_not_applied_moves_no_head(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({})))).await;
    let head = one.head().await;
    for refused in [entry(1, "x", upsert(json!({"a": 2}))), entry(2, "missing", patch(json!({})))] {
        let heads = two.push(vec![refused]).await.heads;
        assert!(heads.values().all(|moved| moved.before == moved.after), "{heads:?}");
    }
    one.push(vec![entry(1, "x", upsert(json!({})))]).await;
    assert_eq!(one.head().await, head);
}
