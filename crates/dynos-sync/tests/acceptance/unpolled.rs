//! Futures that have begun and are not polled: `select!` leaves its other branches so while it does what came first.

use std::pin::pin;

use dynos_sync::{Fields, json};
use futures_util::FutureExt;

use crate::stack::{Stack, TABLE, object, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_future_that_nobody_polls_holds_nobody_up() {
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    device.write("x", json!({"a": 1})).await;
    let engine = &device.engine;
    let set = |n: i64| move |_: Fields| Ok(object(json!({"a": n})));
    // Two of each: the one may wait for the other.
    let (mut statuses, mut others) = (engine.watch_status(), engine.watch_status());
    let (mut conflicts, mut letters) = (engine.watch_conflicts(), engine.watch_dead_letters());
    let mut rows = engine.watch::<Fields>("SELECT id FROM notes", ()).unwrap();
    let (mut status, mut tables) = (pin!(engine.status()), pin!(engine.tables()));
    let (mut update, mut removal) =
        (pin!(engine.update(TABLE, "x", set(2))), pin!(engine.remove(TABLE, "y")));
    let mut sync = pin!(engine.sync_all());
    let _ = (statuses.next().now_or_never(), others.next().now_or_never());
    let _ = (conflicts.next().now_or_never(), letters.next().now_or_never(), rows.next().now_or_never());
    let _ = ((&mut status).now_or_never(), (&mut tables).now_or_never());
    let _ = ((&mut update).now_or_never(), (&mut removal).now_or_never(), (&mut sync).now_or_never());

    within(engine.update(TABLE, "x", set(3))).await.unwrap();
    within(engine.write(TABLE, "z", object(json!({"a": 1})))).await.unwrap();
    within(engine.status()).await.unwrap();
    within(engine.conflicts()).await.unwrap();
    assert_eq!(within(engine.query::<Fields>("SELECT id FROM notes", ())).await.unwrap().len(), 2);
    device.sync().await;
    within(engine.close()).await;
}
