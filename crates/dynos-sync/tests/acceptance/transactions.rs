//! Edits that take effect together, on the device and on the server, or not at all.

use dynos_sync::{Strategy, SyncError, core::Limits, fields, json};

use crate::stack::{Device, Stack, object};

/// Orders and their lines, as an application keeps them.
const SHOP: &str = "CREATE TABLE orders (id TEXT PRIMARY KEY, customer TEXT, total INTEGER);
                    CREATE TABLE lines (id TEXT PRIMARY KEY, \"order\" TEXT REFERENCES orders (id), article TEXT)";

async fn shop(stack: &Stack, name: &str, strategy: Strategy) -> Device {
    let setup = |setup: &mut crate::stack::Setup| {
        setup.schema = SHOP.to_owned();
        setup.tables = vec!["orders".to_owned(), "lines".to_owned()];
        setup.config.conflict_strategy = strategy;
    };
    stack.device_with(name, setup).await
}

/// A server that takes no record of more than 1,000 bytes.
async fn small() -> Stack {
    Stack::with(|config| config.limits.record_bytes = 1000).await
}

async fn order(device: &Device, id: &str, article: &str) -> Result<(), SyncError> {
    let line = format!("{id}-1");
    device
        .engine
        .transaction()
        .write("orders", id, fields([("customer", "ada".into()), ("total", 5.into())]))
        .write("lines", &line, fields([("order", id.into()), ("article", article.into())]))
        .commit()
        .await
}

async fn letters(device: &Device) -> Vec<(String, String)> {
    let letters = device.engine.dead_letters().await.unwrap();
    letters.into_iter().map(|letter| (letter.key.to_string(), letter.code)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_together_arrives_together() {
    let stack = Stack::new().await;
    let (one, two) =
        (shop(&stack, "one", Strategy::default()).await, shop(&stack, "two", Strategy::default()).await);
    order(&one, "o1", "tea").await.unwrap();
    one.sync().await;
    two.sync().await;
    assert_eq!(two.rows("orders").await["o1"]["total"], 5);
    assert_eq!(two.rows("lines").await["o1-1"]["article"], "tea");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_edit_cannot_be_made_here_none_is() {
    let stack = Stack::new().await;
    let device = shop(&stack, "device", Strategy::default()).await;
    let before = device.state().await;
    let refused = device
        .engine
        .transaction()
        .write("orders", "o1", fields([("total", 5.into())]))
        .patch("lines", "none", fields([("article", "tea".into())]))
        .commit()
        .await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(device.state().await, before);
    assert!(device.rows("orders").await.is_empty());
    // The name of the table, then the number of edits, then the size.
    let bad = device.engine.transaction().write("", "x", fields([])).commit().await;
    assert!(matches!(&bad, Err(SyncError::Invalid(invalid)) if invalid.field == "table"), "{bad:?}");
    let many = (0..=Limits::TRANSACTION).fold(device.engine.transaction(), |transaction, n| {
        transaction.write("orders", &n.to_string(), fields([]))
    });
    let many = many.commit().await;
    assert!(matches!(&many, Err(SyncError::Invalid(invalid)) if invalid.field == "transaction"), "{many:?}");
    let large = (0..100).fold(device.engine.transaction(), |transaction, n| {
        transaction.write("orders", &n.to_string(), fields([("customer", "x".repeat(100_000).into())]))
    });
    let large = large.commit().await;
    assert!(
        matches!(&large, Err(SyncError::Invalid(invalid)) if invalid.field == "transaction"),
        "{large:?}"
    );
    assert_eq!(device.state().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_refuses_all_and_all_are_taken_up_again() {
    let stack = small().await;
    let device = shop(&stack, "device", Strategy::default()).await;
    device.write_elsewhere("orders", "o0", json!({"total": 1})).await;
    order(&device, "o1", &"x".repeat(2000)).await.unwrap();
    for _ in 0..5 {
        device.sync().await;
        device.clock.advance(std::time::Duration::from_secs(600));
    }
    assert_eq!(
        stack.records("ada", "orders").await.into_keys().collect::<Vec<_>>(),
        ["o0"],
        "the other one went through"
    );
    assert!(device.rows("lines").await.is_empty() && !device.rows("orders").await.contains_key("o1"));
    let (order, line) = (
        ("orders/o1".to_owned(), "transaction".to_owned()),
        ("lines/o1-1".to_owned(), "too_large".to_owned()),
    );
    assert_eq!(letters(&device).await, [order, line]);

    stack.configure(|config| config.limits.record_bytes = 10_000);
    stack.stop().await;
    stack.start().await;
    let letter = device.engine.dead_letters().await.unwrap()[0].id;
    device.engine.retry_dead_letter(letter).await.unwrap();
    assert!(letters(&device).await.is_empty());
    device.sync().await;
    assert!(stack.records("ada", "orders").await.contains_key("o1"));
    assert!(stack.records("ada", "lines").await.contains_key("o1-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_holds_all_back_until_it_is_decided() {
    for strategy in [Strategy::ClientWins, Strategy::ServerWins] {
        let stack = Stack::new().await;
        let is_ours = matches!(strategy, Strategy::ClientWins);
        let (one, two) = (shop(&stack, "one", strategy.clone()).await, shop(&stack, "two", strategy).await);
        one.write_elsewhere("orders", "o1", json!({"total": 1})).await;
        one.sync().await;
        two.sync().await;
        two.write_elsewhere("orders", "o1", json!({"total": 2})).await;
        two.sync().await;
        let transaction = one.engine.transaction().patch("orders", "o1", fields([("total", 3.into())]));
        transaction.write("lines", "l1", fields([("order", "o1".into())])).commit().await.unwrap();
        let first = one.engine.drain_once().await.unwrap();
        assert_eq!((first.pushed, first.conflicts), (0, 2), "neither was applied");
        for device in [&one, &two, &one] {
            device.sync().await;
        }
        assert_eq!(two.rows("orders").await["o1"]["total"], if is_ours { 3 } else { 2 });
        assert!(two.rows("lines").await.contains_key("l1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_of_the_application_can_be_a_transaction() {
    let stack = small().await;
    let device = shop(&stack, "device", Strategy::default()).await;
    let large = "x".repeat(2000);
    let bad = device.replica.transaction(move |db| {
        db.execute("INSERT INTO orders VALUES ('bad', 'ada', 1)", [])?;
        db.execute("INSERT INTO lines VALUES ('bad-1', 'bad', ?1)", [large])
    });
    bad.await.unwrap();
    let good = |db: &rusqlite::Connection| {
        db.execute("INSERT INTO orders VALUES ('good', 'ada', 1)", [])?;
        db.execute("INSERT INTO lines VALUES ('good-1', 'good', 'tea')", [])
    };
    device.replica.transaction(good).await.unwrap();
    device.sync().await;
    assert_eq!(stack.records("ada", "orders").await.into_keys().collect::<Vec<_>>(), ["good"]);
    assert_eq!(stack.records("ada", "lines").await.into_keys().collect::<Vec<_>>(), ["good-1"]);
}

impl Device {
    async fn write_elsewhere(&self, table: &str, id: &str, record: dynos_sync::core::Value) {
        self.engine.write(table, id, object(record)).await.unwrap();
    }
}
