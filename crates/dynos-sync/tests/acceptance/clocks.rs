//! Whatever the clocks say: order comes from numbers, and a wrong clock does not win for ever.

use std::time::Duration;

use dynos_sync::{core::Replica, json};

use crate::stack::{START, Stack, TABLE};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_clock_does_not_win_for_ever() {
    let stack = Stack::new().await;
    let (fast, right) = (stack.device("fast").await, stack.device("right").await);
    fast.clock.advance(YEAR);
    fast.write("x", json!({"a": "from the future"})).await;
    stack.settle(&[&fast, &right]).await;
    // Who has seen it stands on it, whatever the own clock says.
    right.patch("x", json!({"a": "after it"})).await;
    assert_eq!(stack.settle(&[&right, &fast]).await["x"], json!({"a": "after it"}));
    // And in a conflict the later edit wins, though its clock is a year behind.
    fast.patch("x", json!({"a": "earlier"})).await;
    right.patch("x", json!({"b": 1})).await;
    right.patch("x", json!({"a": "later"})).await;
    fast.sync().await;
    right.sync().await;
    let records = stack.settle(&[&fast, &right]).await;
    assert_eq!(records["x"], json!({"a": "later", "b": 1}));
    assert_eq!(right.state().await.conflicts, 1, "it was one");
    assert_eq!(right.clock.now(), START);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_changes_no_order() {
    for step in [3_600_000, 365 * 24 * 3_600_000] {
        let stack = Stack::new().await;
        let one = stack.device("one").await;
        let two = stack.device("two").await;
        one.write("a", json!({"n": 1})).await;
        one.engine.close().await;
        // Another program, whose clock is behind.
        let again =
            stack.device_with("one", |setup| setup.clock = crate::stack::TestClock::new(START - step)).await;
        again.patch("a", json!({"n": 2})).await;
        again.write("b", json!({"n": 3})).await;
        let queue = again.replica.queue(0, 10).await.unwrap();
        let order: Vec<_> = queue.iter().map(|entry| (entry.key.id.as_str(), entry.counter)).collect();
        assert_eq!(order, [("a", 1), ("a", 2), ("b", 3)]);
        assert!(queue.is_sorted_by(|one, next| one.at < next.at), "{queue:?}");
        let records = stack.settle(&[&again, &two]).await;
        assert_eq!((&records["a"], &records["b"]), (&json!({"n": 2}), &json!({"n": 3})));
    }
}

const STAMPED: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, a, updated_at TEXT)";

#[tokio::test(flavor = "multi_thread")]
async fn stamps_are_utc() {
    let stack = Stack::new().await;
    let one = stack.device_with("one", |setup| setup.schema = STAMPED.to_owned()).await;
    one.write("x", json!({"a": 1})).await;
    assert_eq!(one.get("x").await.unwrap()["updated_at"], json!("2027-01-15T08:00:00.000Z"));
    assert_eq!(one.rows(TABLE).await.len(), 1);
}

#[test]
fn the_time_zone_makes_no_difference() {
    // The environment of a process is set from outside. These two are a day apart, and one has a summer time.
    for zone in ["Pacific/Kiritimati", "America/New_York", "XYZ+11:30"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "clocks::stamps_are_utc"])
            .env("TZ", zone)
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&output.stdout);
        assert!(output.contains("1 passed"), "{zone}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_far_away_travel_as_they_are() {
    let stack = Stack::new().await;
    let device = async |name| stack.device_with(name, |setup| setup.schema = STAMPED.to_owned()).await;
    let (one, two) = (device("one").await, device("two").await);
    let times = [
        "2038-01-19T03:14:08Z",
        "9999-12-31T23:59:59.999999999Z",
        "1969-12-31T23:59:59Z",
        "-009999-01-02T00:00:00Z",
        "2016-12-31T23:59:60Z",
        "2016-02-30T00:00:00Z",
        "soon",
    ];
    for (n, time) in times.into_iter().enumerate() {
        one.write(
            &format!("t{n}"),
            json!({"a": 2_147_483_648_i64 * 1000 * (n as i64 - 3), "updated_at": time}),
        )
        .await;
    }
    one.clock.set(253_402_207_199_000);
    one.write("last", json!({"a": i64::MAX})).await;
    let records = stack.settle(&[&one, &two]).await;
    for (n, time) in times.into_iter().enumerate() {
        assert_eq!(records[&format!("t{n}")]["updated_at"], json!(time));
    }
    assert_eq!(records["last"]["updated_at"], json!("9999-12-30T21:59:59.000Z"));
}
