//! Cursors of a history that the backend no longer has: tombstones were purged, or an older copy was restored.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Client, Fixture,
    client::{OTHER, TABLE, entry, entry_on, ids, name},
};
use crate::{
    cursor::Cursor,
    entry::Edit,
    ids::Seq,
    remote::RemoteError,
    wire::{Expired, PullRequest, PushAnswer, PushEntry, PushRequest, PushResult},
};

fn is_purged(error: &RemoteError) -> bool {
    matches!(error, RemoteError::CursorExpired(Expired::Purged))
}

fn rolled_back_to(error: &RemoteError) -> Seq {
    match error {
        RemoteError::CursorExpired(Expired::RolledBack { common, own: None }) => *common,
        other => panic!("not rolled back: {other:?}"),
    }
}

/// `kept` and `gone` were made, and `gone` was deleted: the cursors before and after the deletion.
async fn deleted(client: &Client) -> [Cursor; 2] {
    client.apply(entry(1, "gone", upsert(json!({})))).await;
    client.apply(entry(2, "kept", upsert(json!({"a": 1})))).await;
    let before = client.head().await;
    client.apply(entry(3, "gone", Edit::Delete)).await;
    [before, client.head().await]
}

pub async fn a_cursor_before_a_purged_tombstone_has_expired(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let [before, _] = deleted(&one).await;
    assert_eq!(ids(&two.pull(Some(&before)).await.changes), ["gone"]);
    let Some(()) = fixture.purge().await else { return };
    assert!(is_purged(&two.pull_error(&before).await));
    one.apply(entry(4, "kept", patch(json!({"a": 2})))).await;
    assert!(is_purged(&two.pull_error(&before).await), "newer changes do not help");
}

pub async fn a_cursor_of_an_empty_table_expires_too(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let empty = two.pull(None).await.next;
    two.apply(entry_on(&empty, 1, "of two", upsert(json!({})))).await;
    one.apply(entry_on(&one.head().await, 1, "of two", Edit::Delete)).await;
    let Some(()) = fixture.purge().await else { return };
    assert!(is_purged(&two.pull_error(&empty).await), "it would never learn that its record is gone");
}

pub async fn a_cursor_after_the_purged_tombstones_is_valid(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let [_, after] = deleted(&one).await;
    let Some(()) = fixture.purge().await else { return };
    assert_eq!(two.pull(Some(&after)).await.changes, []);
    one.apply(entry(4, "new", upsert(json!({})))).await;
    assert_eq!(ids(&two.pull(Some(&after)).await.changes), ["new"]);
}

pub async fn a_purge_moves_no_head(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let [_, after] = deleted(&client).await;
    let Some(()) = fixture.purge().await else { return };
    assert_eq!(client.head().await, after);
}

pub async fn a_purge_expires_no_cursor_of_another_table(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let other = two.head_of(OTHER).await;
    deleted(&one).await;
    let Some(()) = fixture.purge().await else { return };
    one.apply(PushEntry { table: name(OTHER), ..entry(4, "x", upsert(json!({}))) }).await;
    let request = PullRequest { table: name(OTHER), ..two.request(Some(&other)) };
    assert_eq!(ids(&two.remote.pull(request).await.unwrap().changes), ["x"]);
}

pub async fn after_a_purge_a_pull_from_the_start_lists_what_lives(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let [_, after] = deleted(&one).await;
    let Some(()) = fixture.purge().await else { return };
    for limit in [1, 10] {
        let pages = two.pages(PullRequest { limit, ..two.request(None) }).await;
        assert_eq!(pages.last().map(|page| &page.next), Some(&after));
        let listed: Vec<_> = pages.into_iter().flat_map(|page| page.changes).collect();
        assert_eq!((ids(&listed), &listed[0].record), (vec!["kept"], &some(json!({"a": 1}))));
    }
}

/// Three records, and a fourth that was deleted.
async fn three_living(client: &Client) {
    for (counter, id) in [(1, "a"), (2, "b"), (3, "c"), (4, "gone")] {
        client.apply(entry(counter, id, upsert(json!({})))).await;
    }
    client.apply(entry(5, "gone", Edit::Delete)).await;
}

pub async fn a_walk_that_began_after_a_purge_reaches_its_end(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    three_living(&one).await;
    let head = one.head().await;
    let Some(()) = fixture.purge().await else { return };
    for limit in [1, 2] {
        let pages = two.pages(PullRequest { limit, ..two.request(None) }).await;
        assert_eq!(pages.last().map(|page| &page.next), Some(&head));
        let listed: Vec<_> = pages.into_iter().flat_map(|page| page.changes).collect();
        assert_eq!(ids(&listed), ["a", "b", "c"], "its cursors pass numbers below the tombstone's");
    }
}

pub async fn a_walk_that_a_purge_overtakes_has_expired(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    three_living(&one).await;
    let Some(()) = fixture.purge().await else { return };
    let page = two.remote.pull(PullRequest { limit: 1, ..two.request(None) }).await.unwrap();
    assert_eq!((ids(&page.changes), page.has_more), (vec!["a"], true));
    one.apply(entry(6, "a", Edit::Delete)).await;
    let Some(()) = fixture.purge().await else { return };
    assert!(is_purged(&two.pull_error(&page.next).await), "it would never learn that a is gone");
}

pub async fn an_entry_with_a_purged_base_is_a_conflict(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let [before, _] = deleted(&one).await;
    let Some(()) = fixture.purge().await else { return };
    let result = two.push_one(entry_on(&before, 1, "gone", upsert(json!({"a": 2})))).await;
    assert!(
        matches!(result, PushResult::Conflict { .. }),
        "its author may not know that it was deleted: {result:?}"
    );
    assert_eq!(two.record("gone").await, None);
}

/// `kept` is in the copy, `lost` is not, and the copy was restored: the number of `kept` and the cursors of both.
/// `None` where the fixture cannot do that.
async fn restored(fixture: &dyn Fixture) -> Option<(Seq, Cursor, Cursor)> {
    let client = Client::new(fixture, "ada", 1).await;
    let common = client.apply(entry(1, "kept", upsert(json!({"a": 1})))).await;
    let within = client.head().await;
    fixture.backup().await?;
    let client = Client::connect(fixture, "ada", 1).await;
    client.apply(entry(2, "lost", upsert(json!({"a": 2})))).await;
    let beyond = client.head().await;
    fixture.restore().await;
    Some((common, within, beyond))
}

pub async fn a_cursor_beyond_a_restored_copy_has_expired(fixture: &dyn Fixture) {
    let Some((common, _, beyond)) = restored(fixture).await else { return };
    let [one, two] = Client::two(fixture).await;
    assert_eq!(rolled_back_to(&two.pull_error(&beyond).await), common);
    assert_eq!(rolled_back_to(&one.pull_error(&beyond).await), common);
    assert_eq!((one.record("kept").await, one.record("lost").await), (some(json!({"a": 1})), None));
}

/// A page does not list a record that was changed again later. Where the later change is lost, the earlier one would be
/// missed by whoever goes on from the page's end.
pub async fn a_cursor_within_a_walk_over_what_was_lost_has_expired(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    client.apply(entry(1, "twice", upsert(json!({"a": 1})))).await;
    let common = client.apply(entry(2, "once", upsert(json!({})))).await;
    let Some(()) = fixture.backup().await else { return };
    let [one, two] = [Client::connect(fixture, "ada", 1).await, Client::connect(fixture, "ada", 2).await];
    one.apply(entry(3, "twice", upsert(json!({"a": 2})))).await;
    let page = two.remote.pull(PullRequest { limit: 1, ..two.request(None) }).await.unwrap();
    assert_eq!((ids(&page.changes), page.has_more), (vec!["once"], true));
    assert_eq!(ids(&two.pull(Some(&page.next)).await.changes), ["twice"], "before, it can be continued from");
    fixture.restore().await;
    let two = Client::connect(fixture, "ada", 2).await;
    assert_eq!(rolled_back_to(&two.pull_error(&page.next).await), common);
}

pub async fn a_cursor_has_expired_though_new_changes_have_passed_it(fixture: &dyn Fixture) {
    let Some((common, _, beyond)) = restored(fixture).await else { return };
    let [one, two] = Client::two(fixture).await;
    for counter in 1..=5 {
        two.apply(entry(counter, &format!("new {counter}"), upsert(json!({})))).await;
        assert_eq!(rolled_back_to(&one.pull_error(&beyond).await), common, "after {counter} changes");
        assert_ne!(one.head().await, beyond, "a cursor of the lost history equals none of the new one");
    }
}

pub async fn a_cursor_within_a_restored_copy_is_valid(fixture: &dyn Fixture) {
    let Some((_, within, _)) = restored(fixture).await else { return };
    let [one, two] = Client::two(fixture).await;
    assert_eq!(one.head().await, within);
    two.apply(entry_on(&within, 1, "kept", patch(json!({"a": 3})))).await;
    assert_eq!(ids(&one.pull(Some(&within)).await.changes), ["kept"]);
}

pub async fn a_restore_to_nothing_has_nothing_in_common(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let empty = client.head().await;
    let Some(()) = fixture.backup().await else { return };
    let client = Client::connect(fixture, "ada", 1).await;
    client.apply(entry(1, "x", upsert(json!({})))).await;
    let beyond = client.head().await;
    fixture.restore().await;
    let client = Client::new(fixture, "ada", 1).await;
    assert_eq!(rolled_back_to(&client.pull_error(&beyond).await), 0);
    assert_eq!(client.pull(Some(&empty)).await.changes, []);
    client.apply(entry(2, "y", upsert(json!({})))).await;
    assert_eq!(rolled_back_to(&client.pull_error(&beyond).await), 0);
}

pub async fn a_restore_that_lost_nothing_expires_nothing(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let [before, after] = deleted(&client).await;
    let Some(()) = fixture.backup().await else { return };
    fixture.restore().await;
    let [one, two] = Client::two(fixture).await;
    assert_eq!(one.head().await, after);
    assert_eq!(ids(&two.pull(Some(&before)).await.changes), ["gone"]);
    one.apply(entry(4, "kept", patch(json!({"a": 2})))).await;
    assert_eq!(ids(&two.pull(Some(&after)).await.changes), ["kept"]);
    let repeated = one.push_one(entry(3, "gone", Edit::Delete)).await;
    assert!(matches!(repeated, PushResult::Duplicate { .. }), "outcomes are in the copy too: {repeated:?}");
}

pub async fn a_restored_backend_keeps_its_identity(fixture: &dyn Fixture) {
    let server = Client::new(fixture, "ada", 1).await.heads(&[]).await.server;
    let Some(_) = restored(fixture).await else { return };
    let client = Client::connect(fixture, "ada", 1).await;
    let heads = client.heads(&[TABLE]).await;
    assert_eq!((heads.server, heads.last_counter), (server, 1), "it shows that it has lost the second entry");
}

pub async fn what_a_restore_lost_is_applied_again(fixture: &dyn Fixture) {
    let Some((common, within, _)) = restored(fixture).await else { return };
    let client = Client::new(fixture, "ada", 1).await;
    let repeated = client.push_one(entry(1, "kept", upsert(json!({"a": 1})))).await;
    assert!(matches!(repeated, PushResult::Duplicate { seq, .. } if seq == common), "{repeated:?}");
    client.apply(entry_on(&within, 2, "lost", upsert(json!({"a": 2})))).await;
    assert_eq!(client.record("lost").await, some(json!({"a": 2})));
}

pub async fn an_entry_with_a_lost_base_is_a_conflict(fixture: &dyn Fixture) {
    let Some((_, _, beyond)) = restored(fixture).await else { return };
    let client = Client::new(fixture, "ada", 2).await;
    let result = client.push_one(entry_on(&beyond, 1, "kept", patch(json!({"a": 3})))).await;
    assert!(matches!(result, PushResult::Conflict { .. }), "its author saw what is not there: {result:?}");
    assert_eq!(client.record("kept").await, some(json!({"a": 1})));
}

/// An edit that was frozen early has an old base, which the copy has too. What it was made on top of may be lost all the
/// same: a patch would meet no record, and an upsert would make a part of one.
pub async fn an_entry_of_a_replica_that_has_seen_what_was_lost_is_a_conflict(fixture: &dyn Fixture) {
    let Some((common, within, beyond)) = restored(fixture).await else { return };
    let client = Client::new(fixture, "ada", 1).await;
    let seen = BTreeMap::from([(name(TABLE), beyond)]);
    let push = async |entries| {
        let request = PushRequest { seen: seen.clone(), ..PushRequest::new(client.replica, entries) };
        client.remote.push(&request).await.unwrap()
    };
    for (counter, edit) in [(3, patch(json!({"a": 3}))), (4, upsert(json!({"b": 3}))), (5, Edit::Delete)] {
        let PushAnswer { results, heads } = push(vec![entry_on(&within, counter, "lost", edit)]).await;
        assert!(matches!(results[..], [PushResult::Conflict { .. }]), "{counter}: {results:?}");
        assert_eq!(heads, [].into(), "a head would hide what was lost");
    }
    let PushAnswer { results, heads } = push(vec![entry(1, "kept", upsert(json!({"a": 1})))]).await;
    assert!(matches!(results[..], [PushResult::Duplicate { seq, .. }] if seq == common), "{results:?}");
    assert_eq!(heads, [].into());
    assert_eq!(client.record("lost").await, None);
    // What belongs to another table, or has seen no more than there is, is applied.
    let request = PushRequest {
        seen: BTreeMap::from([(name(TABLE), within.clone())]),
        ..PushRequest::new(client.replica, vec![entry_on(&within, 6, "new", upsert(json!({})))])
    };
    let results = client.remote.push(&request).await.unwrap().results;
    assert!(matches!(results[..], [PushResult::Applied { .. }]), "{results:?}");
}

/// A walk from the beginning has no cursor that could expire, and a valid one may lie before what was lost.
pub async fn a_pull_that_names_a_place_that_was_lost_has_expired(fixture: &dyn Fixture) {
    let Some((common, within, beyond)) = restored(fixture).await else { return };
    let client = Client::new(fixture, "ada", 1).await;
    let expired = async |cursor| {
        let request = PullRequest { seen: Some(beyond.clone()), ..client.request(cursor) };
        match client.remote.pull(request).await.unwrap_err() {
            RemoteError::CursorExpired(expired) => expired,
            error => panic!("not expired: {error:?}"),
        }
    };
    // Of others' changes the replica knows those up to its cursor.
    assert_eq!(expired(None).await, Expired::RolledBack { common: 0, own: Some(common) });
    for cursor in [&within, &beyond] {
        assert_eq!(expired(Some(cursor)).await, Expired::RolledBack { common, own: None });
    }
    let request = PullRequest { seen: Some(within), all: true, ..client.request(None) };
    assert_eq!(ids(&client.remote.pull(request).await.unwrap().changes), ["kept"]);
}

/// What was purged is for the cursor to know.
pub async fn a_pull_may_name_a_place_before_a_purge(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let [before, _] = deleted(&one).await;
    let Some(()) = fixture.purge().await else { return };
    let request = PullRequest { seen: Some(before), ..two.request(None) };
    assert_eq!(ids(&two.remote.pull(request).await.unwrap().changes), ["kept"]);
}

pub async fn a_second_restore_is_noticed_too(fixture: &dyn Fixture) {
    let Some((common, within, first)) = restored(fixture).await else { return };
    let client = Client::new(fixture, "ada", 1).await;
    client.apply(entry(3, "lost", upsert(json!({"a": 3})))).await;
    let second = client.head().await;
    fixture.restore().await;
    let client = Client::new(fixture, "ada", 1).await;
    client.apply(entry(4, "new", upsert(json!({})))).await;
    let third = client.head().await;
    assert!(first != second && second != third && first != third);
    assert_eq!(rolled_back_to(&client.pull_error(&first).await), common);
    // The copy does not know of the life between the restores: nothing is promised about what they share.
    assert!(rolled_back_to(&client.pull_error(&second).await) <= common);
    assert_eq!(
        client.remote.pull(PullRequest { all: true, ..client.request(Some(&within)) }).await.unwrap().next,
        third
    );
}
