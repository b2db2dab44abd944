//! Conflicts between records of a type: decided by a function, a strategy a table, and followed.

use dynos_sync::{Record, Strategy, Versions, json};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use crate::stack::{Device, Stack, object, within};

/// With a key that is no text, so that its id is JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    id: i64,
    stock: i64,
}

impl Record for Item {
    const TABLE: &'static str = "items";
}

const SCHEMA: &str = "CREATE TABLE items (id INTEGER PRIMARY KEY, stock INTEGER NOT NULL, shelf TEXT);
                      CREATE TABLE notes (id TEXT PRIMARY KEY, a, b)";

fn count(versions: Versions<Item>) -> Option<Item> {
    let (mine, theirs) = (versions.mine?, versions.theirs?);
    let before = versions.base.map_or(0, |base| base.stock);
    Some(Item { stock: mine.stock + theirs.stock - before, ..theirs })
}

async fn device(stack: &Stack, name: &str) -> Device {
    stack
        .device_with(name, |setup| {
            setup.schema = SCHEMA.to_owned();
            setup.tables.push("items".to_owned());
            setup.config.conflict_strategy = Strategy::ServerWins;
            setup.config.table_strategies.insert("items".to_owned(), Versions::strategy(count));
        })
        .await
}

/// Two devices that have taken something away, of which the first has synced.
async fn both_took(stack: &Stack) -> (Device, Device) {
    let (one, two) = (device(stack, "one").await, device(stack, "two").await);
    one.engine.table().put(&Item { id: 7, stock: 10 }).await.unwrap();
    one.engine.write("notes", "n", object(json!({"a": 0}))).await.unwrap();
    one.sync().await;
    two.sync().await;
    for (device, taken) in [(&one, 2), (&two, 3)] {
        device.engine.table::<Item>().update(7, |item| item.stock -= taken).await.unwrap();
        device.engine.patch("notes", "n", object(json!({"a": taken}))).await.unwrap();
    }
    one.engine.patch("items", "7", object(json!({"shelf": "B"}))).await.unwrap();
    one.sync().await;
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_table_has_its_strategy_and_a_function_sees_records() {
    let stack = Stack::new().await;
    let (one, two) = both_took(&stack).await;
    two.sync().await;
    one.sync().await;
    for device in [&one, &two] {
        let items = device.engine.table::<Item>().all().await.unwrap();
        assert_eq!(items, [Item { id: 7, stock: 5 }]);
        let item = device.engine.get("items", "7").await.unwrap().unwrap();
        assert_eq!(item["shelf"], "B", "a field that the type does not have is the server's");
        let note = device.engine.get("notes", "n").await.unwrap().unwrap();
        assert_eq!(note["a"], 2, "the server's version: the other table's strategy");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_may_delete_the_record() {
    let stack = Stack::new().await;
    let (one, two) = both_took(&stack).await;
    one.engine.remove("items", "7").await.unwrap();
    one.sync().await;
    two.sync().await;
    one.sync().await;
    for device in [&one, &two] {
        assert_eq!(device.engine.table::<Item>().all().await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_is_followed_as_records() {
    let stack = Stack::new().await;
    let (_one, two) = both_took(&stack).await;
    let mut items = two.engine.table::<Item>().watch_conflicts();
    let mut journal = two.engine.watch_conflicts();
    assert_eq!(within(items.next()).await.unwrap().unwrap(), []);
    assert!(within(journal.next()).await.unwrap().unwrap().is_empty());
    two.sync().await;
    let decided = loop {
        let decided = within(items.next()).await.unwrap().unwrap();
        if !decided.is_empty() {
            break decided;
        }
    };
    let item = |stock| Some(Item { id: 7, stock });
    assert_eq!(decided[0].versions, Versions { base: item(10), mine: item(7), theirs: item(8) });
    assert_eq!((decided.len(), &decided[0].outcome), (1, &item(5)));
    assert_eq!(two.engine.table::<Item>().conflicts().await.unwrap(), decided);
    while within(journal.next()).await.unwrap().unwrap().len() < 2 {}
    // An edit is no news of conflicts.
    two.engine.table().put(&Item { id: 8, stock: 1 }).await.unwrap();
    while let Some(Some(again)) = Box::pin(items.next()).now_or_never() {
        assert_eq!(again.unwrap(), decided);
    }
    two.engine.discard_conflict(decided[0].conflict).await.unwrap();
    while !within(items.next()).await.unwrap().unwrap().is_empty() {}
    two.engine.close().await;
    while within(items.next()).await.is_some() {}
}
