//! Every strategy has one outcome, whether push or pull meets the conflict, and everybody ends with it.

use std::sync::Arc;

use async_trait::async_trait;
use dynos_sync::{
    Strategy, SyncEvent,
    core::{
        Value,
        conflict::{Conflict, Resolution, Resolver},
    },
    json,
};

use crate::stack::{COLUMNS, Device, START, Stack, TABLE, built_in, object, told};

/// What one side does to a record.
#[derive(Clone, Copy, Debug)]
enum Side {
    Patch(&'static str, i64),
    Create(i64),
    Delete,
}

use Side::{Create, Delete, Patch};

/// What the two sides do: here, and elsewhere before.
const CASES: [(&str, Side, Side); 5] = [
    ("same", Patch("a", 2), Patch("a", 3)),
    ("different", Patch("a", 2), Patch("b", 3)),
    ("delete-update", Delete, Patch("a", 3)),
    ("update-delete", Patch("a", 2), Delete),
    ("create-create", Create(2), Create(3)),
];

fn record(a: i64, b: i64) -> Option<Value> {
    Some(json!({"a": a, "b": b, "c": "c"}))
}

/// What the protocol says about the outcome.
fn expected(strategy: &Strategy, case: &str, local_later: bool) -> Option<Value> {
    let pick = |local, remote| if local_later { local } else { remote };
    let (local, remote) = match case {
        "same" => (record(2, 1), record(3, 1)),
        "different" => (record(2, 1), record(1, 3)),
        "delete-update" => (None, record(3, 1)),
        "update-delete" => (record(2, 1), None),
        _ => (record(2, 2), record(3, 3)),
    };
    match strategy {
        Strategy::Custom(resolver) => match format!("{resolver:?}").as_str() {
            "KeepLocal" => local,
            "KeepRemote" => remote,
            "Merge" => record(9, 9),
            _ => None,
        },
        _ if case == "delete-update" => None,
        Strategy::ServerWins => remote,
        Strategy::ClientWins => local,
        Strategy::Merge if case == "different" => record(2, 3),
        _ => pick(local, remote),
    }
}

/// Resolvers that take their time.
#[derive(Debug)]
enum Slow {
    KeepLocal,
    KeepRemote,
    Merge,
    Delete,
}

#[async_trait]
impl Resolver for Slow {
    async fn resolve(&self, conflict: &Conflict) -> Resolution {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        assert_eq!(conflict.base.is_some(), !conflict.key.id.as_str().starts_with("create"), "{conflict:?}");
        match self {
            Self::KeepLocal => Resolution::KeepLocal,
            Self::KeepRemote => Resolution::KeepRemote,
            Self::Merge => Resolution::Merged(object(record(9, 9).unwrap())),
            Self::Delete => Resolution::Delete,
        }
    }
}

async fn act(device: &Device, id: &str, side: Side) {
    match side {
        Patch(field, value) => device.patch(id, json!({field: value})).await,
        Create(value) => device.write(id, record(value, value).unwrap()).await,
        Delete => device.remove(id).await,
    }
}

fn ids(local_later: bool) -> impl Iterator<Item = (String, Side, Side)> {
    let when = if local_later { "later" } else { "earlier" };
    CASES.into_iter().map(move |(case, here, there)| (format!("{case}-{when}"), here, there))
}

/// All cases at once: each is a record of its own.
async fn meet(strategy: Strategy, columns: bool, push_first: bool) {
    let context = format!("{strategy:?} columns={columns} push_first={push_first}");
    let stack = Stack::new().await;
    let device = async |name| {
        let strategy = strategy.clone();
        let schema = if columns { COLUMNS } else { "" };
        let setup = |setup: &mut crate::stack::Setup| {
            setup.schema = schema.to_owned();
            setup.config.conflict_strategy = strategy;
        };
        stack.device_with(name, setup).await
    };
    let (here, there, third) = (device("here").await, device("there").await, device("third").await);
    for (id, side, _) in ids(true).chain(ids(false)) {
        if !matches!(side, Create(_)) {
            there.write(&id, record(1, 1).unwrap()).await;
        }
    }
    stack.settle(&[&there, &here, &third]).await;
    for (id, side, _) in ids(false) {
        act(&here, &id, side).await;
    }
    there.clock.set(START + 1000);
    for (id, _, side) in ids(true).chain(ids(false)) {
        act(&there, &id, side).await;
    }
    here.clock.set(START + 2000);
    for (id, side, _) in ids(true) {
        act(&here, &id, side).await;
    }
    there.sync().await;
    let mut events = here.engine.events();
    if push_first {
        here.engine.drain().await.unwrap();
    } else {
        here.engine.pull_all().await.unwrap();
    }
    let records = stack.settle(&[&here, &there, &third]).await;
    for local_later in [true, false] {
        for ((id, ..), (case, ..)) in ids(local_later).zip(CASES) {
            let expected = expected(&strategy, case, local_later);
            assert_eq!(records.get(&id), expected.as_ref(), "{context} {id}");
        }
    }
    let conflicts = told(&mut events).into_iter().filter_map(|event| match event {
        SyncEvent::Conflict { record_id, strategy_used, resolved, .. } => {
            assert_eq!(strategy_used, strategy.name());
            assert_eq!(
                resolved.map(Value::Object).as_ref(),
                records.get(&record_id),
                "{context} {record_id}"
            );
            Some(record_id)
        }
        _ => None,
    });
    let mut conflicts: Vec<String> = conflicts.collect();
    conflicts.sort();
    let mut all: Vec<String> = ids(true).chain(ids(false)).map(|(id, ..)| id).collect();
    all.sort();
    assert_eq!(conflicts, all, "{context}: each conflict is told once");
    assert_eq!(here.engine.conflicts().await.unwrap().len(), all.len(), "{context}");
    assert_eq!((there.state().await.conflicts, third.state().await.conflicts), (0, 0), "{context}");
}

async fn every_way(strategies: impl IntoIterator<Item = Strategy>) {
    for strategy in strategies {
        for (columns, push_first) in [(false, true), (false, false), (true, true), (true, false)] {
            meet(strategy.clone(), columns, push_first).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_strategies_end_alike_whichever_way_the_conflict_is_met() {
    every_way(built_in()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_of_the_applications_ends_alike_whichever_way_the_conflict_is_met() {
    let resolvers = [Slow::KeepLocal, Slow::KeepRemote, Slow::Merge, Slow::Delete];
    every_way(resolvers.map(|resolver| Strategy::Custom(Arc::new(resolver)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_changes_only_its_fields_everywhere() {
    for schema in ["", COLUMNS] {
        let stack = Stack::new().await;
        let device = async |name| stack.device_with(name, |setup| setup.schema = schema.to_owned()).await;
        let (one, two, three) = (device("one").await, device("two").await, device("three").await);
        one.write("x", record(1, 1).unwrap()).await;
        stack.settle(&[&one, &two, &three]).await;
        // One after the other, each knowing the last, each sending its own field only.
        one.patch("x", json!({"a": 5})).await;
        one.sync().await;
        two.sync().await;
        stack.proxy.forget();
        two.patch("x", json!({"b": 6})).await;
        two.sync().await;
        let sent = &stack.proxy.seen_at("/v1/push")[0].body()["entries"][0];
        assert_eq!((&sent["op"], &sent["data"]), (&json!("patch"), &json!({"b": 6})));
        let records = stack.settle(&[&one, &two, &three]).await;
        assert_eq!(records["x"], record(5, 6).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_conflict_is_asked_for_again_when_the_record_changed_meanwhile() {
    /// Waits until the test says so.
    #[derive(Debug)]
    struct Asking(tokio::sync::Notify, tokio::sync::Semaphore);

    #[async_trait]
    impl Resolver for Asking {
        async fn resolve(&self, _: &Conflict) -> Resolution {
            self.0.notify_one();
            self.1.acquire().await.unwrap().forget();
            Resolution::KeepLocal
        }
    }

    let asking = Arc::new(Asking(tokio::sync::Notify::new(), tokio::sync::Semaphore::new(0)));
    let stack = Stack::new().await;
    let resolver: Arc<dyn Resolver> = asking.clone();
    let one = stack.device_with("one", |s| s.config.conflict_strategy = Strategy::Custom(resolver)).await;
    let two = stack.device("two").await;
    one.write("x", record(1, 1).unwrap()).await;
    stack.settle(&[&one, &two]).await;
    two.patch("x", json!({"a": 2})).await;
    two.sync().await;
    one.patch("x", json!({"a": 3})).await;
    let engine = one.engine.clone();
    let syncing = tokio::spawn(async move { engine.sync_all().await });
    asking.0.notified().await;
    // The user goes on writing while the question is open.
    one.patch("x", json!({"b": 9})).await;
    asking.1.add_permits(2);
    crate::stack::within(syncing).await.unwrap().unwrap();
    let records = stack.settle(&[&one, &two]).await;
    assert_eq!(records["x"], record(3, 9).unwrap());
    assert_eq!(one.engine.conflicts().await.unwrap().len(), 1);
    assert_eq!(one.rows(TABLE).await["x"], record(3, 9).unwrap());
}

/// Both sides of a table whose rows were made when it had fewer columns.
async fn with_a_younger_column(stack: &Stack, strategy: &Strategy) -> (Device, Device) {
    let device = async |name| {
        let strategy = strategy.clone();
        let setup = |setup: &mut crate::stack::Setup| {
            setup.schema = "CREATE TABLE notes (id TEXT PRIMARY KEY, a, b)".to_owned();
            setup.config.conflict_strategy = strategy;
        };
        stack.device_with(name, setup).await
    };
    let (one, two) = (device("one").await, device("two").await);
    one.write("x", json!({"a": 1, "b": 1})).await;
    stack.settle(&[&one, &two]).await;
    for device in [&one, &two] {
        device.sql("ALTER TABLE notes ADD COLUMN c TEXT").await;
    }
    stack.settle(&[&one, &two]).await;
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_the_winning_version_does_not_name_is_as_it_was() {
    for (strategy, c) in built_in().into_iter().zip([json!(null), json!(null), json!("mine"), json!("mine")])
    {
        let stack = Stack::new().await;
        let (one, two) = with_a_younger_column(&stack, &strategy).await;
        one.patch("x", json!({"c": "mine"})).await;
        two.clock.set(START + 1000);
        two.patch("x", json!({"a": 2})).await;
        two.sync().await;
        let records = stack.settle(&[&one, &two]).await;
        assert_eq!(records["x"]["c"], c, "{strategy:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_may_name_the_columns_that_it_cares_about() {
    #[derive(Debug)]
    struct Partly;

    #[async_trait]
    impl Resolver for Partly {
        async fn resolve(&self, _: &Conflict) -> Resolution {
            Resolution::Merged(object(json!({"a": 9})))
        }
    }

    for schema in ["", COLUMNS] {
        let stack = Stack::new().await;
        let device = async |name| {
            let setup = |setup: &mut crate::stack::Setup| {
                setup.schema = schema.to_owned();
                setup.config.conflict_strategy = Strategy::Custom(Arc::new(Partly));
            };
            stack.device_with(name, setup).await
        };
        let (one, two) = (device("one").await, device("two").await);
        one.write("x", json!({"a": 1, "b": 1, "c": "c"})).await;
        stack.settle(&[&one, &two]).await;
        two.patch("x", json!({"a": 2})).await;
        two.sync().await;
        one.patch("x", json!({"a": 3, "b": 3})).await;
        let records = stack.settle(&[&one, &two]).await;
        // A document is what the resolver says; a row keeps the server's value in what it does not say.
        let expected = if schema.is_empty() { json!({"a": 9}) } else { json!({"a": 9, "b": 1, "c": "c"}) };
        assert_eq!(records["x"], expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_is_the_same_everywhere() {
    let stack = Stack::new().await;
    let schema = "CREATE TABLE notes (id TEXT PRIMARY KEY, a, made TEXT DEFAULT (lower(hex(randomblob(8)))))";
    let device = async |name| stack.device_with(name, |setup| setup.schema = schema.to_owned()).await;
    let (one, two) = (device("one").await, device("two").await);
    one.write("x", json!({"a": 1})).await;
    one.sql("INSERT INTO notes (id, a) VALUES ('y', 1)").await;
    let records = stack.settle(&[&one, &two]).await;
    assert_eq!(records.len(), 2);
    one.remove("x").await;
    one.write("x", json!({"a": 2})).await;
    stack.settle(&[&one, &two]).await;
}
