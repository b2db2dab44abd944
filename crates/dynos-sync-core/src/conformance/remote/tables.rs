//! Declared tables and the heads of their histories.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Client, Fixture,
    client::{OTHER, TABLE, entry, entry_on, name},
};
use crate::{
    entry::Edit,
    table::{Column, Shape, TableSpec},
    wire::{PullRequest, PushEntry},
};

async fn listed(client: &Client) -> Vec<String> {
    let mut names: Vec<String> =
        client.remote.tables().await.unwrap().into_iter().map(|spec| spec.name.to_string()).collect();
    names.sort();
    names
}

pub async fn declared_tables_are_listed(fixture: &dyn Fixture) {
    let client = Client::connect(fixture, "ada", 1).await;
    assert_eq!(listed(&client).await, [""; 0]);
    let spec = TableSpec::document(name(TABLE));
    client.remote.declare(std::slice::from_ref(&spec)).await.unwrap();
    assert_eq!(client.remote.tables().await.unwrap(), [spec]);
    client.remote.declare(&[TableSpec::document(name(OTHER))]).await.unwrap();
    assert_eq!(listed(&client).await, [OTHER, TABLE]);
    let another = Client::connect(fixture, "ada", 2).await;
    assert_eq!(listed(&another).await, [OTHER, TABLE], "so that another device can make them");
}

pub async fn declaring_a_table_again_changes_nothing(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    let (tables, head) = (one.remote.tables().await.unwrap(), one.head().await);
    two.remote.declare(&tables).await.unwrap();
    assert_eq!((two.remote.tables().await.unwrap(), two.head().await), (tables, head));
    assert_eq!(two.record("x").await, some(json!({"a": 1})));
}

pub async fn a_record_made_by_a_device_with_fewer_columns_has_nothing_in_the_others(fixture: &dyn Fixture) {
    let [narrow, wide] = [Client::connect(fixture, "ada", 1).await, Client::connect(fixture, "ada", 2).await];
    let column = |name: &str| Column {
        name: name.to_owned(),
        declared: "TEXT".to_owned(),
        not_null: name == "must",
        default: (name == "has").then(|| "1".to_owned()),
        collation: None,
    };
    let with = |names: &[&str]| {
        let columns = names.iter().map(|name| column(name)).collect();
        let (key, indexes, foreign_keys) = (vec!["id".to_owned()], vec![], vec![]);
        let flags = (false, false, false);
        let (without_rowid, strict, autoincrement) = flags;
        let shape =
            Shape::Columns { columns, key, indexes, foreign_keys, without_rowid, strict, autoincrement };
        TableSpec { name: name(TABLE), shape }
    };
    narrow.remote.declare(&[with(&["id", "a"])]).await.unwrap();
    wide.remote.declare(&[with(&["id", "a", "more", "must", "has"])]).await.unwrap();
    wide.apply(entry(1, "x", upsert(json!({"a": 1, "more": 2, "must": 3})))).await;
    narrow.apply(entry(1, "made", upsert(json!({"a": 1})))).await;
    assert_eq!(wide.record("made").await, some(json!({"a": 1, "more": null})));
    let seen = narrow.pull(None).await.next;
    narrow.apply(entry_on(&seen, 2, "x", patch(json!({"a": 2})))).await;
    assert_eq!(wide.record("x").await, some(json!({"a": 2, "more": 2, "must": 3})), "a patch takes nothing");
    let seen = narrow.pull(None).await.next;
    let again = Edit::Replace(some(json!({"a": 3})).unwrap());
    narrow.apply(entry_on(&seen, 3, "x", again)).await;
    assert_eq!(wide.record("x").await, some(json!({"a": 3, "more": null})));
}

pub async fn heads_name_every_table_asked_for(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let heads = client.heads(&[TABLE, OTHER]).await;
    assert_eq!(heads.heads.keys().map(ToString::to_string).collect::<Vec<_>>(), [OTHER, TABLE]);
    assert_eq!(client.heads(&[OTHER]).await.heads.len(), 1);
    assert_eq!(client.heads(&[]).await.heads.len(), 0);
}

pub async fn heads_are_equal_while_nothing_changes(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    assert_eq!(one.head().await, two.head().await);
    let empty = one.head().await;
    one.apply(entry(1, "x", upsert(json!({})))).await;
    let head = one.head().await;
    assert_ne!(head, empty);
    two.pull(None).await;
    assert_eq!((one.head().await, two.head().await), (head.clone(), head));
}

pub async fn a_change_moves_the_head_of_its_table_alone(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    client.apply(entry(1, "x", upsert(json!({})))).await;
    let before = client.heads(&[TABLE, OTHER]).await.heads;
    client.apply(PushEntry { table: name(OTHER), ..entry(2, "x", upsert(json!({}))) }).await;
    let after = client.heads(&[TABLE, OTHER]).await.heads;
    assert_eq!(before[&name(TABLE)], after[&name(TABLE)], "nothing lies between them");
    assert_ne!(before[&name(OTHER)], after[&name(OTHER)]);
}

pub async fn a_backend_has_one_identity(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let server = one.heads(&[]).await.server;
    one.apply(entry(1, "x", upsert(json!({})))).await;
    assert!(!server.is_empty());
    assert_eq!((one.heads(&[TABLE]).await.server, two.heads(&[]).await.server), (server.clone(), server));
}

pub async fn the_highest_counter_of_a_replica_is_known(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    assert_eq!(one.heads(&[]).await.last_counter, 0);
    one.push(vec![entry(7, "x", upsert(json!({}))), entry(3, "y", upsert(json!({})))]).await;
    assert_eq!(one.heads(&[]).await.last_counter, 7);
    one.push(vec![entry(9, "missing", patch(json!({})))]).await;
    assert_eq!(one.heads(&[]).await.last_counter, 9, "that of a rejected entry is used up too");
    assert_eq!(two.heads(&[]).await.last_counter, 0);
}

pub async fn table_names_are_any_unicode(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let names =
        ["übersicht", "表 😀", "quo\"te's", "select", "a;drop table x", "a.b", "a/b?c=d&e", "100%", " "];
    let specs = names.map(|table| TableSpec::document(name(table)));
    client.remote.declare(&specs).await.unwrap();
    for (counter, table) in (1..).zip(names) {
        let marked = entry(counter, "x", upsert(json!({"is": table})));
        client.apply(PushEntry { table: name(table), ..marked }).await;
    }
    let listed = client.remote.tables().await.unwrap();
    let heads = client.heads(&names).await.heads;
    for (spec, table) in specs.iter().zip(names) {
        assert!(listed.contains(spec), "{table:?}");
        let request = PullRequest { table: name(table), all: true, ..client.request(None) };
        let page = client.remote.pull(request).await.unwrap();
        assert_eq!(page.changes.len(), 1, "{table:?}");
        assert_eq!(page.changes[0].record, some(json!({"is": table})));
        assert_eq!(page.next, heads[&name(table)]);
    }
}
