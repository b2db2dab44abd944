//! What other programs write to the database leaves it as soon as what is written through the engine.

use std::{sync::atomic::Ordering, time::Duration};

use dynos_sync::{core::Replica, json};
use rusqlite::Connection;

use crate::stack::{Setup, Stack, TABLE, until, within};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn worker(setup: &mut Setup) {
    setup.config.auto_sync = true;
    setup.config.pull_interval = DAY;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_program_writes_is_pushed_without_anybody_looking() {
    let stack = Stack::new().await;
    let device = stack.device_with("device", worker).await;
    if device.replica.foreign_commits().is_none() {
        return; // This platform does not say when a file is written to.
    }
    within(device.engine.initial_sync_done()).await.unwrap();
    let program = Connection::open(device.replica.path()).unwrap();
    for n in 1..4 {
        let sql = format!("INSERT INTO {TABLE} (id, data) VALUES ('r{n}', '{{}}')");
        program.execute_batch(&sql).unwrap();
        // No time passes.
        until(async || stack.records("ada", TABLE).await.len() == n).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_wakes_up_while_nothing_happens() {
    let stack = Stack::new().await;
    let device = stack.device_with("device", worker).await;
    if device.replica.foreign_commits().is_none() {
        return;
    }
    within(device.engine.initial_sync_done()).await.unwrap();
    device.write("x", json!({"a": 1})).await;
    until(async || device.state().await.pending == 0).await;
    device.clock.pass(Duration::from_secs(60)).await;
    let before = device.clock.sleeps.load(Ordering::Acquire);
    device.clock.pass(Duration::from_secs(12 * 3600)).await;
    let sleeps = device.clock.sleeps.load(Ordering::Acquire) - before;
    assert!(sleeps < 5, "woke up {sleeps} times for nothing");
}
