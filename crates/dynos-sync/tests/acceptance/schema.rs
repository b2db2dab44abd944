//! Applications change: what was queued by an older version, and devices that know more columns than others.

use dynos_sync::{
    Builder, Schema, Strategy, SyncEngine, SyncError,
    core::{Replica, ReplicaError, replica::Phase},
    json,
    sqlite::{SqliteOptions, SqliteReplica},
};

use crate::{
    proxy::Fate,
    stack::{Device, Stack, TABLE, object},
};

const FIRST: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, name TEXT, done BOOLEAN)";

/// The second version calls a note's name its title.
fn second() -> Schema {
    Schema::version(2).step(2, |part| part.rename("name", "title"))
}

async fn first_version(stack: &Stack, name: &str) -> Device {
    stack.device_with(name, |setup| setup.schema = FIRST.to_owned()).await
}

/// Ends the application and starts its next version.
async fn restarted(stack: &Stack, device: Device, schema: Schema, sql: &'static str) -> Device {
    let Device { engine, replica, clock, path } = device;
    engine.close().await;
    drop(replica);
    let replica = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap();
    assert!(replica.migrate(&schema, move |db, _| db.execute_batch(sql)).await.unwrap());
    let engine = builder(stack, &replica).schema(schema).start().await.unwrap();
    Device { engine, replica, clock, path }
}

fn builder(stack: &Stack, replica: &SqliteReplica) -> Builder {
    let remote = stack.remote("ada").build().unwrap();
    SyncEngine::builder(replica.clone(), remote).configure(|config| config.auto_sync = false).table(TABLE)
}

/// What the first version's application leaves behind when it ends.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_version_queued_arrives_in_the_form_of_the_newer() {
    let stack = Stack::new().await;
    let device = first_version(&stack, "device").await;
    device.write("synced", json!({"name": "tea", "done": false})).await;
    device.sync().await;
    device.write("new", json!({"name": "milk"})).await;
    device.patch("synced", json!({"name": "coffee"})).await;
    device.sql("INSERT INTO notes VALUES ('captured', 'bread', 0)").await;
    let device = restarted(&stack, device, second(), "ALTER TABLE notes RENAME COLUMN name TO title").await;
    device.write("after", json!({"title": "jam"})).await;
    device.sync().await;
    let records = stack.records("ada", TABLE).await;
    let titles = ["after", "captured", "new", "synced"].map(|id| records[id]["title"].clone());
    assert_eq!(titles, ["jam", "bread", "milk", "coffee"]);
    assert_eq!(records["synced"]["name"], "tea", "what the server has is the server's");
    assert_eq!(device.rows(TABLE).await["synced"], json!({"title": "coffee", "done": false}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_by_an_older_version_is_not_made_twice() {
    let stack = Stack::new().await;
    let device = first_version(&stack, "device").await;
    device.sync().await;
    device.write("1", json!({"name": "milk"})).await;
    // The server takes it, and the answer is lost.
    stack.proxy.once("/v1/push", Fate::LoseReply);
    device.engine.drain().await.unwrap_err();
    device.patch("1", json!({"name": "oat milk"})).await;
    let device = restarted(&stack, device, second(), "ALTER TABLE notes RENAME COLUMN name TO title").await;
    device.sync().await;
    assert_eq!(
        stack.records("ada", TABLE).await["1"],
        json!({"name": "milk", "title": "oat milk", "done": null})
    );
    let state = device.state().await;
    assert_eq!((state.pending, state.dead_letters, state.conflicts), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_leaves_tables_and_queue_as_they_were() {
    let stack = Stack::new().await;
    let device = first_version(&stack, "device").await;
    device.write("1", json!({"name": "milk"})).await;
    let failed = device
        .replica
        .migrate(&second(), |db, _| {
            db.execute_batch("ALTER TABLE notes RENAME COLUMN name TO title; SELECT * FROM nowhere")
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(device.get("1").await.unwrap()["name"], "milk");
    assert_eq!(device.replica.queue(0, 10).await.unwrap()[0].edit.fields().unwrap()["name"], "milk");
    device.sync().await;
    assert_eq!(stack.records("ada", TABLE).await["1"]["name"], "milk");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_application_is_told_that_it_is_too_old() {
    let stack = Stack::new().await;
    let device = first_version(&stack, "device").await;
    device.engine.close().await;
    let newer = builder(&stack, &SqliteReplica::open(&device.path, &SqliteOptions::default()).unwrap());
    newer.schema(Schema::version(3)).start().await.unwrap().close().await;
    let replica = SqliteReplica::open(&device.path, &SqliteOptions::default()).unwrap();
    let refused = builder(&stack, &replica).schema(second()).start().await.unwrap_err();
    assert!(
        matches!(refused, SyncError::Replica(ReplicaError::NewerSchema { found: 3, known: 2 })),
        "{refused}"
    );
}

const ADD: &str = "ALTER TABLE notes ADD COLUMN priority INTEGER";

/// A device of the first version that has pulled what one of the second has written: `x` with a priority of 3, `y` with one of 4.
async fn left_behind(stack: &Stack, strategy: Strategy) -> (Device, Device) {
    let old = |setup: &mut crate::stack::Setup| {
        setup.schema = FIRST.to_owned();
        setup.config.conflict_strategy = strategy;
    };
    let old = stack.device_with("old", old).await;
    let wider = |setup: &mut crate::stack::Setup| setup.schema = format!("{FIRST}; {ADD}");
    let new = stack.device_with("new", wider).await;
    old.sync().await;
    new.write("x", json!({"name": "tea", "priority": 3})).await;
    new.write("y", json!({"name": "jam", "priority": 4})).await;
    new.sync().await;
    old.sync().await;
    assert_eq!(old.rows(TABLE).await["x"], json!({"name": "tea", "done": null}));
    (old, new)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_a_table_gains_is_filled_with_what_was_left_out_before() {
    let stack = Stack::new().await;
    let (old, new) = left_behind(&stack, Strategy::default()).await;
    let old = restarted(&stack, old, Schema::version(2), ADD).await;
    old.sync().await;
    assert_eq!(old.rows(TABLE).await, new.rows(TABLE).await);
    assert_eq!(old.rows(TABLE).await["x"]["priority"], 3);
    let state = old.state().await;
    let table = state.table(&TABLE.parse().unwrap()).unwrap();
    assert_eq!((table.phase, table.gained.len()), (Phase::Following, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_before_and_of_meanwhile_take_nothing_from_a_column_they_do_not_set() {
    for strategy in crate::stack::built_in() {
        let stack = Stack::new().await;
        let (old, new) = left_behind(&stack, strategy.clone()).await;
        old.patch("x", json!({"name": "coffee"})).await;
        old.remove("y").await;
        old.write("z", json!({"name": "bread"})).await;
        let old = restarted(&stack, old, Schema::version(2), ADD).await;
        old.patch("x", json!({"done": true})).await;
        old.sync().await;
        new.sync().await;
        let expected = json!({"name": "coffee", "done": true, "priority": 3});
        assert_eq!(new.rows(TABLE).await["x"], expected, "{strategy:?}");
        assert_eq!(old.rows(TABLE).await, new.rows(TABLE).await, "{strategy:?}");
        assert!(!new.rows(TABLE).await.contains_key("y"), "{strategy:?}");
        assert_eq!(old.state().await.conflicts, 0, "{strategy:?}: nobody has changed what the other did");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_for_a_column_of_which_something_was_left_out_is_a_conflict() {
    let stack = Stack::new().await;
    let (old, new) = left_behind(&stack, Strategy::ServerWins).await;
    let old = restarted(&stack, old, Schema::version(2), ADD).await;
    old.engine.patch(TABLE, "x", object(json!({"priority": 1}))).await.unwrap();
    old.sync().await;
    new.sync().await;
    assert_eq!(old.state().await.conflicts, 1, "it was written without knowledge of the other");
    assert_eq!(old.rows(TABLE).await, new.rows(TABLE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_which_the_server_knows_nothing_costs_no_pull() {
    let stack = Stack::new().await;
    let device = first_version(&stack, "device").await;
    device.write("1", json!({"name": "tea"})).await;
    device.sync().await;
    let before = device.state().await.tables[0].cursor.clone();
    let device = restarted(&stack, device, Schema::version(2), ADD).await;
    assert_eq!(device.state().await.tables[0].cursor, before);
}
