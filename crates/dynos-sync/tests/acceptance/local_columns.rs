//! What the application never mentioned stays as it is.

use dynos_sync::{core::Value, json};

use crate::stack::{COLUMNS, Stack, TABLE, object};

const WIDER: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, a, b, c TEXT, mine TEXT DEFAULT 'untouched')";

async fn mine(device: &crate::stack::Device, id: &str) -> Value {
    device.get(id).await.unwrap()["mine"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_the_server_does_not_send_is_left_alone() {
    let stack = Stack::new().await;
    let phone = stack.device_with("phone", |setup| setup.schema = COLUMNS.to_owned()).await;
    let desk = stack.device_with("desk", |setup| setup.schema = WIDER.to_owned()).await;
    phone.write("x", json!({"a": 1, "b": 1})).await;
    phone.sync().await;
    desk.sync().await;
    assert_eq!(mine(&desk, "x").await, json!("untouched"));
    // Not synced: the column is set before the engine looks at the row again.
    desk.sql("UPDATE dynos_state SET capture = 0; UPDATE notes SET mine = 'secret'; UPDATE dynos_state SET capture = 1").await;
    phone.patch("x", json!({"a": 2})).await;
    phone.sync().await;
    desk.sync().await;
    assert_eq!(desk.get("x").await.unwrap(), json!({"id": "x", "a": 2, "b": 1, "c": null, "mine": "secret"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_written_by_an_older_device_keeps_what_a_newer_one_added() {
    let stack = Stack::new().await;
    let old = stack.device_with("old", |setup| setup.schema = COLUMNS.to_owned()).await;
    let new = stack.device_with("new", |setup| setup.schema = WIDER.to_owned()).await;
    new.write("x", json!({"a": 1, "b": 1, "mine": "added"})).await;
    new.sync().await;
    let mut events = old.engine.events();
    old.sync().await;
    let unknown = crate::stack::told(&mut events);
    assert!(unknown.iter().any(
        |event| matches!(event, dynos_sync::SyncEvent::UnknownColumns { columns, .. } if columns == &["mine"])
    ));
    old.patch("x", json!({"a": 2})).await;
    old.write("x", json!({"b": 2})).await;
    old.sync().await;
    new.sync().await;
    assert_eq!(stack.records("ada", TABLE).await["x"], json!({"a": 2, "b": 2, "c": null, "mine": "added"}));
    assert_eq!(new.rows(TABLE).await["x"], json!({"a": 2, "b": 2, "c": null, "mine": "added"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_there_before_and_are_never_written_survive_every_sync() {
    let stack = Stack::new().await;
    let schema = format!("{WIDER}; INSERT INTO notes (id, a, mine) VALUES ('kept', 7, 'here')");
    let desk = stack.device_with("desk", |setup| setup.schema = schema).await;
    let phone = stack.device_with("phone", |setup| setup.schema = COLUMNS.to_owned()).await;
    desk.sync().await;
    phone.sync().await;
    phone.write("other", json!({"a": 1})).await;
    phone.sync().await;
    desk.sync().await;
    assert_eq!(
        desk.get("kept").await.unwrap(),
        json!({"id": "kept", "a": 7, "b": null, "c": null, "mine": "here"})
    );
    assert_eq!(phone.rows(TABLE).await["kept"], json!({"a": 7, "b": null, "c": null}));
    // Unknown to the server, unknown to the phone, and refused by name where it is named there.
    let refused = phone.engine.write(TABLE, "kept", object(json!({"mine": 1}))).await.unwrap_err();
    assert!(
        matches!(&refused, dynos_sync::SyncError::Invalid(invalid) if invalid.field == "mine"),
        "{refused}"
    );
}

const FAMILY: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, a TEXT);
                      CREATE TABLE child (id TEXT PRIMARY KEY, note TEXT NOT NULL REFERENCES notes ON DELETE CASCADE, n INTEGER)";

#[tokio::test(flavor = "multi_thread")]
async fn children_may_come_before_their_parents_and_outlive_their_updates() {
    let stack = Stack::new().await;
    let device = async |name| {
        let setup = |setup: &mut crate::stack::Setup| {
            setup.schema = FAMILY.to_owned();
            // The children's table is pulled first.
            setup.tables = vec!["child".to_owned(), TABLE.to_owned()];
            setup.config.page_size = 2;
        };
        stack.device_with(name, setup).await
    };
    let (one, two) = (device("one").await, device("two").await);
    for n in 0..3 {
        one.write(&format!("p{n}"), json!({"a": "1"})).await;
        for child in 0..5 {
            one.engine
                .write("child", &format!("c{n}{child}"), object(json!({"note": format!("p{n}"), "n": 1})))
                .await
                .unwrap();
        }
    }
    one.sync().await;
    two.sync().await;
    let whole = async |device: &crate::stack::Device, parents: usize, children: usize| {
        assert_eq!((device.rows(TABLE).await.len(), device.rows("child").await.len()), (parents, children));
        let dangling = "SELECT count(*) FROM pragma_foreign_key_check";
        let dangling =
            device.replica.read_with(move |db| db.query_row(dangling, [], |row| row.get::<_, i64>(0)));
        assert_eq!(dangling.await.unwrap(), 0);
    };
    whole(&two, 3, 15).await;
    // A parent is written anew, also as a whole: its children stay.
    one.write("p0", json!({"a": "2"})).await;
    one.remove("p1").await;
    one.write("p1", json!({"a": "anew"})).await;
    stack.settle_without_rows(&[&one, &two]).await;
    whole(&one, 3, 10).await;
    whole(&two, 3, 10).await;
    assert_eq!(two.rows(TABLE).await, one.rows(TABLE).await);
    assert_eq!(
        two.rows("child").await,
        one.rows("child").await,
        "the cascade of the delete travelled, and no other"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_another_type_is_kept_aside_until_it_fits_and_holds_nobody_up() {
    const STRICT: &str =
        "CREATE TABLE notes (id TEXT PRIMARY KEY, a CHECK (typeof(a) IN ('integer', 'null')), b, c TEXT)";
    let stack = Stack::new().await;
    let loose = stack.device_with("loose", |setup| setup.schema = COLUMNS.to_owned()).await;
    let strict = stack.device_with("strict", |setup| setup.schema = STRICT.to_owned()).await;
    loose.write("x", json!({"a": "a text by now"})).await;
    loose.write("y", json!({"a": 1})).await;
    loose.sync().await;
    let mut events = strict.engine.events();
    strict.sync().await;
    let told = crate::stack::told(&mut events);
    let kept_aside = told.iter().filter(
        |event| matches!(event, dynos_sync::SyncEvent::Quarantined { key, .. } if key.id.as_str() == "x"),
    );
    assert_eq!(kept_aside.count(), 1, "{told:?}");
    assert_eq!((strict.state().await.quarantined, strict.get("x").await), (1, None));
    assert_eq!(strict.get("y").await.unwrap()["a"], json!(1));
    loose.write("z", json!({"a": 2})).await;
    loose.patch("x", json!({"a": 3})).await;
    loose.sync().await;
    strict.sync().await;
    let records = stack.settle(&[&loose, &strict]).await;
    assert_eq!((records.len(), &records["x"]["a"]), (3, &json!(3)));
}
