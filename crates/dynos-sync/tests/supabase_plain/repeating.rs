//! Rows that are listed again, and pushes that are sent again.

use std::{sync::atomic::Ordering, time::Duration};

use dynos_sync::core::json;

use crate::device::World;

/// Row, answer and cursor say nothing of who wrote what. That the newer edit wins is seen by what it was made on top of.
#[tokio::test]
async fn the_newer_edit_of_a_device_that_restarts_wins_though_its_clock_lags() {
    let world = World::new().await;
    let device = world.device("one", -60_000).await;
    device.write("r", &[("title", "first".into()), ("price", json!(3.0)), ("done", true.into())]).await;
    device.sync().await;
    device.patch("r", &[("title", "second".into())]).await;
    device.sync().await;
    device.close().await;
    let device = world.device("one", -60_000).await;
    device.patch("r", &[("title", "third".into())]).await;
    device.sync().await;
    assert_eq!(world.sql("select title from TABLE"), "third");
    assert_eq!(device.get("r").await.unwrap()["title"], "third");
    assert_eq!(device.conflicts().await.len(), 0);
    // And where the row comes again before the edit is pushed.
    device.patch("r", &[("title", "fourth".into())]).await;
    device.driver.pull_all().await.unwrap();
    assert_eq!((device.conflicts().await.len(), device.pending().await), (0, 1));
    device.sync().await;
    assert_eq!(world.sql("select title from TABLE"), "fourth");
}

#[tokio::test]
async fn a_lost_answer_doubles_nothing_and_loses_nothing() {
    let world = World::new().await;
    let device = world.device("one", 0).await;
    for n in 0..50 {
        device.write(&format!("r{n}"), &[("title", n.to_string().into()), ("price", json!(3.0))]).await;
    }
    device.network.loses_answers.store(true, Ordering::Relaxed);
    device.driver.sync_all().await.unwrap_err();
    assert_eq!(world.sql("select count(*) from TABLE"), "50", "it has arrived");
    device.close().await;

    let device = world.device("one", 0).await;
    device.patch("r7", &[("title", "seven".into())]).await;
    device.sync().await;
    assert_eq!(device.pending().await, 0);
    assert_eq!(world.sql("select count(*), count(distinct id) from TABLE"), "50|50");
    assert_eq!(world.sql("select title from TABLE where id = 'r7'"), "seven");
    assert_eq!(device.conflicts().await.len(), 0, "what is there is there");
}

/// The pull comes first, as after a timeout of the push. Then the row looks like somebody else's.
#[tokio::test]
async fn a_lost_answer_whose_row_is_pulled_first_is_a_journalled_conflict_at_most() {
    let world = World::new().await;
    let device = world.device("one", 0).await;
    device.write("r", &[("title", "mine".into())]).await;
    device.network.loses_answers.store(true, Ordering::Relaxed);
    device.driver.drain().await.unwrap_err();
    device.network.loses_answers.store(false, Ordering::Relaxed);
    device.driver.pull_all().await.unwrap();
    device.sync().await;
    assert_eq!((device.pending().await, device.rows()), (0, vec!["r|mine|-|-".to_owned()]));
    assert_eq!(world.sql("select title from TABLE"), "mine");
    assert!(device.conflicts().await.len() <= 1);
}

/// The bound: an edit made offline is compared with the time at which the other one arrived.
#[tokio::test]
async fn the_last_to_arrive_wins_over_an_edit_made_before() {
    let world = World::new().await;
    let (one, two) = (world.device("one", 0).await, world.device("two", 0).await);
    one.write("r", &[("title", "start".into())]).await;
    one.sync().await;
    two.sync().await;
    two.patch("r", &[("title", "made later, arrives last".into())]).await;
    one.patch("r", &[("title", "made last, arrives first".into())]).await;
    one.clock.skip(Duration::from_secs(1));
    one.sync().await;
    two.sync().await;
    one.sync().await;
    assert_eq!(two.rows(), ["r|made last, arrives first|-|-"], "it arrived after the other was made");
    assert_eq!((one.rows(), two.conflicts().await.len()), (two.rows(), 1));
}
