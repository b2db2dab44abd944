//! Devices end equal to the database, and to each other.

use dynos_sync::{Strategy, SyncConfig, core::json};

use crate::device::{Device, World};

/// What the database has, as [`Device::rows`] shows it.
pub(crate) fn database(world: &World) -> Vec<String> {
    let rows = world.sql(
        "select id || '|' || coalesce(title, '-') || '|' || coalesce(done::int::text, '-') || '|' || coalesce(size::text, '-')
         from TABLE where deleted_at is null order by id collate \"C\"",
    );
    rows.lines().map(str::to_owned).collect()
}

async fn meet(world: &World, devices: &[&Device]) {
    for _ in 0..2 {
        for device in devices {
            device.sync().await;
        }
    }
    for device in devices {
        assert_eq!(device.rows(), database(world));
        assert_eq!(device.pending().await, 0);
    }
}

#[tokio::test]
async fn two_devices_and_other_programs_end_equal_to_the_database() {
    let world = World::new().await;
    let (one, two) = (world.device("one", 0).await, world.device("two", -60_000).await);
    for n in 0..300 {
        one.write(&format!("r{n}"), &[("title", format!("row {n}").into()), ("price", json!(3.0))]).await;
    }
    meet(&world, &[&one, &two]).await;
    assert_eq!(two.rows().len(), 300);

    // Offline: each changes rows of its own, some that both change, and so does the web.
    one.program("UPDATE TABLE SET done = 1 WHERE id LIKE 'r1%'; DELETE FROM TABLE WHERE id LIKE 'r2%'");
    two.program("UPDATE TABLE SET size = 7 WHERE id LIKE '%5'; INSERT INTO TABLE (id, title) VALUES ('new', 'of two')");
    world.sql("update TABLE set title = 'from the web', updated_at = now() where id like 'r3%'");
    two.remove("r4").await;
    two.write("r4", &[("title", "again".into())]).await;
    meet(&world, &[&one, &two]).await;
    let rows = two.rows();
    assert!(
        rows.contains(&"r15|row 15|1|7".to_owned())
            || one.conflicts().await.len() + two.conflicts().await.len() > 0
    );
    assert!(
        rows.contains(&"r35|from the web|-|7".to_owned()) || !two.conflicts().await.is_empty(),
        "{rows:?}"
    );
    assert!(rows.contains(&"new|of two|-|-".to_owned()));
    assert!(!rows.iter().any(|row| row.starts_with("r20|")));
}

#[tokio::test]
async fn a_merge_keeps_what_each_has_changed() {
    let world = World::new().await;
    let config = || {
        let mut config = SyncConfig::default();
        config.conflict_strategy = Strategy::Merge;
        config
    };
    let one = world.device_with("one", 0, config()).await;
    let two = world.device_with("two", -3_600_000, config()).await;
    one.write(
        "r",
        &[
            ("title", "milk".into()),
            ("done", false.into()),
            ("price", json!(2.0)),
            ("notes", json!({"a": [1]})),
        ],
    )
    .await;
    meet(&world, &[&one, &two]).await;
    one.patch("r", &[("title", "oat milk".into())]).await;
    two.patch("r", &[("done", true.into())]).await;
    meet(&world, &[&one, &two]).await;
    assert_eq!(one.rows(), ["r|oat milk|1|-"]);
    assert_eq!(world.sql("select price, notes from TABLE"), "2|{\"a\": [1]}", "untouched values stay");
}

#[tokio::test]
async fn turns_taken_quickly_are_no_conflicts() {
    let world = World::new().await;
    let (one, two) = (world.device("one", 0).await, world.device("two", 0).await);
    one.write(
        "r",
        &[("title", "0".into()), ("price", json!(1.0)), ("done", true.into()), ("notes", json!([{"b": 1}]))],
    )
    .await;
    one.sync().await;
    for n in 1..=10 {
        for device in [&two, &one] {
            device.sync().await;
            device.patch("r", &[("title", n.to_string().into())]).await;
            device.sync().await;
        }
    }
    meet(&world, &[&one, &two]).await;
    assert_eq!(one.rows(), ["r|10|1|-"]);
    assert_eq!(
        (one.conflicts().await.len(), two.conflicts().await.len()),
        (0, 0),
        "each had seen the other's"
    );
}
