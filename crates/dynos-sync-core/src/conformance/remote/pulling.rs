//! Pages of changes.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Client, Fixture,
    client::{OTHER, TABLE, entry, entry_on, ids, name},
};
use crate::{
    cursor::Cursor,
    entry::Edit,
    record::Change,
    remote::RemoteError,
    wire::{PullRequest, PushEntry},
};

/// Two replicas that changed records in turns.
async fn taken_turns(fixture: &dyn Fixture) -> [Client; 2] {
    let [one, two] = Client::two(fixture).await;
    for counter in 1..=4 {
        one.apply(entry(counter, &format!("one {counter}"), upsert(json!({"n": counter})))).await;
        two.apply(entry(counter, &format!("two {counter}"), upsert(json!({"n": counter})))).await;
    }
    one.apply(entry(5, "one 1", Edit::Delete)).await;
    two.apply(entry(5, "two 2", patch(json!({"n": 9})))).await;
    [one, two]
}

/// Whether pages of every size put together are one big page, and end at the head.
async fn pages_agree(client: &Client, request: PullRequest) {
    let whole = client.remote.pull(request.clone()).await.unwrap();
    assert!(!whole.has_more && whole.changes.is_sorted_by(|one, next| one.seq < next.seq), "{whole:?}");
    assert_eq!(whole.next, client.head().await);
    for limit in 1..=whole.changes.len() + 1 {
        let pages = client.pages(PullRequest { limit, ..request.clone() }).await;
        if let Some(total) = pages[0].total {
            assert_eq!(total, whole.changes.len() as u64, "limit {limit}");
        }
        assert!(pages[1..].iter().all(|page| page.total.is_none()), "limit {limit}: only the first says so");
        assert_eq!(pages.last().map(|page| &page.next), Some(&whole.next), "limit {limit}");
        let changes: Vec<Change> = pages.into_iter().flat_map(|page| page.changes).collect();
        assert_eq!(changes, whole.changes, "limit {limit}");
    }
}

pub async fn a_change_carries_its_record_number_and_time(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let empty = two.head().await;
    let seq = one.apply(PushEntry { at: 1_767_225_600_123, ..entry(1, "x", upsert(json!({"a": 1}))) }).await;
    let gone = one.apply(PushEntry { at: 42, ..entry(2, "y", Edit::Delete) }).await;
    let empty = two.request(Some(&empty));
    let change = |id: &str, seq, at, record| Change {
        id: id.parse().unwrap(),
        seq,
        at,
        own: false,
        again: false,
        record,
    };
    let expected = [change("x", seq, 1_767_225_600_123, some(json!({"a": 1}))), change("y", gone, 42, None)];
    assert_eq!(two.remote.pull(empty).await.unwrap().changes, expected);
}

pub async fn a_record_is_listed_once_with_its_newest_version(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({"n": 1})))).await;
    let seen = two.pull(None).await.next;
    one.apply(entry(2, "x", patch(json!({"n": 2})))).await;
    one.apply(entry(3, "y", upsert(json!({"n": 1})))).await;
    let seq = one.apply(entry(4, "x", patch(json!({"n": 3})))).await;
    for cursor in [None, Some(&seen)] {
        let page = two.pull(cursor).await;
        assert_eq!(ids(&page.changes), ["y", "x"]);
        assert_eq!((page.changes[1].seq, &page.changes[1].record), (seq, &some(json!({"n": 3}))));
    }
}

pub async fn own_changes_are_left_out(fixture: &dyn Fixture) {
    let [one, _] = taken_turns(fixture).await;
    let page = one.pull(None).await;
    assert_eq!(ids(&page.changes), ["two 1", "two 3", "two 4", "two 2"]);
    assert!(page.changes.iter().all(|change| !change.own));
}

pub async fn all_includes_own_changes_and_marks_them(fixture: &dyn Fixture) {
    let [one, _] = taken_turns(fixture).await;
    let page = one.remote.pull(PullRequest { all: true, ..one.request(None) }).await.unwrap();
    let living: Vec<Change> = page.changes.into_iter().filter(|change| change.record.is_some()).collect();
    assert_eq!(ids(&living), ["two 1", "one 2", "one 3", "two 3", "one 4", "two 4", "two 2"]);
    assert!(living.iter().all(|change| change.own == change.id.as_str().starts_with("one")), "{living:?}");
}

pub async fn a_change_on_top_of_an_own_one_is_not_own(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    let seen = one.head().await;
    two.apply(entry_on(&seen, 1, "x", patch(json!({"b": 2})))).await;
    for all in [false, true] {
        let page = one.remote.pull(PullRequest { all, ..one.request(Some(&seen)) }).await.unwrap();
        assert_eq!((ids(&page.changes), page.changes[0].own), (vec!["x"], false));
        assert_eq!(page.changes[0].record, some(json!({"a": 1, "b": 2})));
    }
    one.apply(entry_on(&one.head().await, 2, "x", patch(json!({"c": 3})))).await;
    assert_eq!(one.pull(Some(&seen)).await.changes, [], "it has the newest version");
}

pub async fn at_the_head_there_is_nothing_to_pull(fixture: &dyn Fixture) {
    let [one, two] = taken_turns(fixture).await;
    for client in [&one, &two] {
        let head = client.head().await;
        let page =
            client.remote.pull(PullRequest { all: true, ..client.request(Some(&head)) }).await.unwrap();
        assert_eq!((page.changes, page.has_more, page.next), (vec![], false, head));
    }
}

pub async fn pages_of_any_size_list_the_same_changes(fixture: &dyn Fixture) {
    let [one, _] = Client::two(fixture).await;
    let empty = one.head().await;
    let [one, _] = taken_turns(fixture).await;
    pages_agree(&one, PullRequest { all: true, ..one.request(None) }).await;
    pages_agree(&one, PullRequest { all: true, ..one.request(Some(&empty)) }).await;
}

pub async fn pages_of_any_size_list_the_same_without_own_changes(fixture: &dyn Fixture) {
    for client in taken_turns(fixture).await {
        pages_agree(&client, client.request(None)).await;
    }
}

pub async fn what_changes_between_pages_is_not_missed(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    for (counter, id) in [(1, "a"), (2, "b"), (3, "c")] {
        one.apply(entry(counter, id, upsert(json!({"n": 1})))).await;
    }
    let page = two.remote.pull(PullRequest { limit: 2, ..two.request(None) }).await.unwrap();
    assert_eq!((ids(&page.changes), page.has_more), (vec!["a", "b"], true));
    one.apply(entry(4, "a", patch(json!({"n": 2})))).await;
    one.apply(entry(5, "c", patch(json!({"n": 2})))).await;
    one.apply(entry(6, "d", upsert(json!({"n": 1})))).await;
    let rest = two.pages(PullRequest { limit: 2, ..two.request(Some(&page.next)) }).await;
    let changes: Vec<Change> = rest.into_iter().flat_map(|page| page.changes).collect();
    assert_eq!(ids(&changes), ["a", "c", "d"]);
    assert_eq!(changes[0].record, some(json!({"n": 2})));
}

pub async fn a_table_is_pulled_without_the_others(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({"in": TABLE})))).await;
    one.apply(PushEntry { table: name(OTHER), ..entry(2, "x", upsert(json!({"in": OTHER}))) }).await;
    for table in [TABLE, OTHER] {
        let page = two.remote.pull(PullRequest { table: name(table), ..two.request(None) }).await.unwrap();
        assert_eq!((ids(&page.changes), &page.changes[0].record), (vec!["x"], &some(json!({"in": table}))));
        assert_eq!(page.next, two.head_of(table).await);
    }
}

pub async fn settled_names_the_applied_of_those_asked_about(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    two.apply(entry(4, "theirs", upsert(json!({})))).await;
    let entries = vec![
        entry(1, "x", upsert(json!({}))),
        entry(2, "missing", patch(json!({}))),
        entry(3, "y", Edit::Delete),
        entry(4, "theirs", upsert(json!({"a": 1}))),
        entry(5, "z", upsert(json!({}))),
    ];
    one.push(entries).await;
    let asked = |unsettled: &[u64]| PullRequest { unsettled: unsettled.to_vec(), ..one.request(None) };
    let mut settled = one.remote.pull(asked(&[1, 2, 3, 4, 6])).await.unwrap().settled;
    settled.sort_unstable();
    assert_eq!(
        settled,
        [1, 3],
        "not the rejected, the conflicting, the one that never came or was not asked about"
    );
    assert_eq!(one.remote.pull(asked(&[])).await.unwrap().settled, [0; 0]);
    let head = one.head().await;
    let request = PullRequest { unsettled: vec![5], ..one.request(Some(&head)) };
    assert_eq!(one.remote.pull(request).await.unwrap().settled, [5], "wherever the cursor stands");
}

pub async fn settled_names_nothing_beyond_the_page(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let start = one.head().await;
    two.apply(entry(1, "a", upsert(json!({})))).await;
    one.apply(entry(1, "mine", upsert(json!({})))).await;
    two.apply(entry(2, "b", upsert(json!({})))).await;
    let asked = PullRequest { unsettled: vec![1], limit: 1, ..one.request(Some(&start)) };
    let page = one.remote.pull(asked.clone()).await.unwrap();
    assert_eq!((page.has_more, page.settled), (true, vec![]), "its cursor lies before the entry");
    let page = one.remote.pull(PullRequest { cursor: Some(page.next), ..asked }).await.unwrap();
    assert_eq!((page.has_more, page.settled), (false, vec![1]));
}

pub async fn settled_and_a_change_on_top_come_together(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let seen = one.head().await;
    one.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    two.apply(entry_on(&two.head().await, 1, "x", patch(json!({"b": 2})))).await;
    let page = one.remote.pull(PullRequest { unsettled: vec![1], ..one.request(Some(&seen)) }).await.unwrap();
    assert_eq!((page.settled, ids(&page.changes)), (vec![1], vec!["x"]));
}

pub async fn a_cursor_that_was_never_given_is_refused(fixture: &dyn Fixture) {
    let [one, _] = taken_turns(fixture).await;
    let given = one.head().await;
    for token in
        ["", " ", "nonsense", "'; --", "\u{0}", "😀", "{}", "-1", &format!("{given}x"), &"9".repeat(5000)]
    {
        let error = one.pull_error(&Cursor::new(token)).await;
        assert!(matches!(error, RemoteError::Refused { .. }), "{token:.20}: {error:?}");
        let forged = PushEntry { base: Some(Cursor::new(token)), ..entry(100, "forged", upsert(json!({}))) };
        drop(one.try_push(vec![forged]).await);
        assert_eq!(one.record("forged").await, None, "{token:.20} is no base either");
    }
}

pub async fn a_limit_of_nothing_skips_nothing(fixture: &dyn Fixture) {
    let [one, _] = taken_turns(fixture).await;
    let everything = one.pull(None).await.changes;
    if let Ok(page) = one.remote.pull(PullRequest { limit: 0, ..one.request(None) }).await {
        let mut changes = page.changes;
        changes.extend(one.pull(Some(&page.next)).await.changes);
        assert_eq!(changes, everything);
    }
}
