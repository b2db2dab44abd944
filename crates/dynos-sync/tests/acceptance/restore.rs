//! The server is put back to an older copy of its data: what any device still knows comes back.

use std::time::Duration;

use dynos_sync::json;

use crate::{
    proxy::Fate,
    stack::{COLUMNS, Device, Stack, TABLE, within},
};

async fn devices(stack: &Stack, schema: &str) -> [Device; 3] {
    let device = async |name| stack.device_with(name, |setup| setup.schema = schema.to_owned()).await;
    [device("one").await, device("two").await, device("three").await]
}

/// Everything there is to lose: own changes, others', deletes.
async fn work_on(stack: &Stack, one: &Device, two: &Device) {
    one.write("updated", json!({"a": 2, "b": 2, "c": "c"})).await;
    one.remove("deleted").await;
    one.write("created", json!({"a": 2, "b": 2, "c": "c"})).await;
    two.patch("others", json!({"a": 2})).await;
    two.remove("others-deleted").await;
    two.write("others-created", json!({"a": 2, "b": 2, "c": "c"})).await;
    stack.settle(&[one, two]).await;
}

async fn begin(stack: &Stack, one: &Device, two: &Device, three: &Device) {
    for id in ["updated", "deleted", "others", "others-deleted", "kept"] {
        one.write(id, json!({"a": 1, "b": 1, "c": "c"})).await;
    }
    stack.settle(&[one, two, three]).await;
    stack.backup("copy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_lost_is_offered_again() {
    for schema in ["", COLUMNS] {
        let stack = Stack::new().await;
        let [one, two, three] = devices(&stack, schema).await;
        begin(&stack, &one, &two, &three).await;
        work_on(&stack, &one, &two).await;
        let before = stack.records("ada", "notes").await;
        stack.restore("copy").await;
        assert_ne!(stack.records("ada", "notes").await, before);
        assert_eq!(stack.settle(&[&one, &two, &three]).await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_brings_back_what_another_did() {
    let stack = Stack::new().await;
    let [one, two, three] = devices(&stack, "").await;
    begin(&stack, &one, &two, &three).await;
    work_on(&stack, &one, &two).await;
    let before = stack.records("ada", "notes").await;
    stack.restore("copy").await;
    // The authors never come back.
    one.engine.close().await;
    assert_eq!(stack.settle(&[&two, &three]).await, before);
    assert_eq!(stack.settle(&[&three]).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_noticed_also_where_new_changes_have_passed_the_old_cursor() {
    for schema in ["", COLUMNS] {
        let stack = Stack::new().await;
        let [one, two, three] = devices(&stack, schema).await;
        begin(&stack, &one, &two, &three).await;
        work_on(&stack, &one, &two).await;
        let before = stack.records("ada", "notes").await;
        stack.restore("copy").await;
        // Three never saw what was lost; its work goes far beyond the others' cursors.
        for n in 0..30 {
            three.write(&format!("new{n:02}"), json!({"a": n, "b": 0, "c": "c"})).await;
        }
        three.patch("kept", json!({"a": 7})).await;
        three.sync().await;
        let after = stack.settle(&[&one, &two, &three]).await;
        for (id, record) in before {
            let expected = if id == "kept" { json!({"a": 7, "b": 1, "c": "c"}) } else { record };
            assert_eq!(after[&id], expected, "{id}");
        }
        assert_eq!(after.len(), 34 + usize::from(after.contains_key("kept")), "{:?}", after.keys());
        assert!(!after.contains_key("deleted") && !after.contains_key("others-deleted"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_restores_in_a_row_lose_nothing_either() {
    let stack = Stack::new().await;
    let [one, two, three] = devices(&stack, "").await;
    begin(&stack, &one, &two, &three).await;
    work_on(&stack, &one, &two).await;
    stack.restore("copy").await;
    one.write("between", json!({"a": 3})).await;
    let before = stack.settle(&[&one, &two]).await;
    stack.restore("copy").await;
    one.write("last", json!({"a": 4})).await;
    let after = stack.settle(&[&one, &two, &three]).await;
    let mut expected = before;
    expected.insert("last".to_owned(), json!({"a": 4}));
    assert_eq!(after, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_restores_before_anybody_came_back_lose_nothing_either() {
    let stack = Stack::new().await;
    let [one, two, three] = devices(&stack, "").await;
    begin(&stack, &one, &two, &three).await;
    work_on(&stack, &one, &two).await;
    let before = stack.records("ada", "notes").await;
    stack.restore("copy").await;
    three.write("three", json!({"a": 1})).await;
    three.sync().await;
    stack.restore("copy").await;
    let after = stack.settle(&[&one, &two, &three]).await;
    let mut expected = before;
    expected.insert("three".to_owned(), json!({"a": 1}));
    assert_eq!(after, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_push_is_noticed_though_the_device_pushes_again_before_it_pulls() {
    let stack = Stack::new().await;
    let [one, two, three] = devices(&stack, "").await;
    begin(&stack, &one, &two, &three).await;
    // From here on the first device's cursor lies before the table's head.
    two.write("theirs", json!({"a": 1})).await;
    two.sync().await;
    stack.backup("copy").await;
    one.write("lost", json!({"a": 1})).await;
    one.engine.drain().await.unwrap();
    let mut expected = stack.records("ada", "notes").await;
    assert!(expected.contains_key("lost"));
    stack.restore("copy").await;
    one.write("kept-too", json!({"a": 2})).await;
    one.engine.drain().await.unwrap();
    expected.insert("kept-too".to_owned(), json!({"a": 2}));
    assert_eq!(stack.settle(&[&one, &two, &three]).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_push_is_noticed_though_the_pull_after_its_conflict_never_came() {
    let stack = Stack::new().await;
    let [one, two, three] = devices(&stack, "").await;
    begin(&stack, &one, &two, &three).await;
    two.patch("kept", json!({"b": 5})).await;
    two.sync().await;
    stack.backup("copy").await;
    one.patch("kept", json!({"a": 9})).await;
    one.write("lost", json!({"a": 1})).await;
    stack.proxy.always("/v1/pull", || Fate::LoseRequest);
    one.engine.drain().await.unwrap_err();
    stack.proxy.heal();
    let on_the_server = stack.records("ada", "notes").await;
    assert_eq!((&on_the_server["lost"], &on_the_server["kept"]["a"]), (&json!({"a": 1}), &json!(1)));
    stack.restore("copy").await;
    let after = stack.settle(&[&one, &two, &three]).await;
    assert_eq!(after.get("lost"), Some(&json!({"a": 1})));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pending_during_a_restore_arrives_too() {
    let stack = Stack::new().await;
    let [one, two, three] = devices(&stack, "").await;
    begin(&stack, &one, &two, &three).await;
    work_on(&stack, &one, &two).await;
    stack.proxy.offline();
    one.patch("updated", json!({"a": 9})).await;
    one.remove("created").await;
    one.patch("others-created", json!({"a": 9})).await;
    one.patch("kept", json!({"a": 9})).await;
    one.write("offline", json!({"a": 9})).await;
    one.engine.drain().await.unwrap_err();
    stack.proxy.heal();
    stack.restore("copy").await;
    let after = stack.settle(&[&one, &two, &three]).await;
    assert_eq!(after["updated"], json!({"a": 9, "b": 2, "c": "c"}));
    assert_eq!(after["offline"], json!({"a": 9}));
    assert!(!after.contains_key("created"), "{after:?}");
    assert_eq!(after["others-created"], json!({"a": 9, "b": 2, "c": "c"}), "and not only the patch");
    assert_eq!(after["kept"], json!({"a": 9, "b": 1, "c": "c"}));
    assert_eq!(one.state().await.dead_letters, 0);
    assert!(!after.contains_key("deleted") && !after.contains_key("others-deleted"));
}

/// A device that has pushed and never pulled has no cursor that could expire.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_in_its_first_pull_keeps_what_it_pushed() {
    let stack = Stack::new().await;
    let one = stack.device_with("one", |setup| setup.config.page_size = 1).await;
    one.write("kept", json!({"a": 1})).await;
    one.write("other", json!({"a": 1})).await;
    within(one.engine.drain()).await.unwrap();
    stack.backup("copy").await;
    one.patch("kept", json!({"a": 2})).await;
    within(one.engine.drain()).await.unwrap();
    stack.restore("copy").await;
    let records = stack.settle(&[&one]).await;
    assert_eq!(records["kept"], json!({"a": 2}));
}

/// A table in which nothing happened has no history that could be lost, but its declaration can.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_a_table_is_told_of_it_again() {
    let stack = Stack::new().await;
    stack.backup("copy").await;
    let one = stack.device("one").await;
    one.sync().await;
    stack.restore("copy").await;
    one.write("a", json!({"a": 1})).await;
    within(one.engine.drain_once()).await.unwrap();
    one.clock.advance(Duration::from_secs(60));
    one.sync().await;
    let state = one.state().await;
    assert_eq!((state.pending, state.dead_letters), (0, 0));
    assert_eq!(stack.records("ada", TABLE).await["a"], json!({"a": 1}));
}

/// A patch whose record the server has lost would make a part of one, if it were sent before the device has found out.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_while_the_device_finds_out_what_was_lost() {
    let stack = Stack::new().await;
    stack.backup("copy").await;
    let one = stack.device_with("one", |setup| setup.schema = COLUMNS.to_owned()).await;
    one.write("lost", json!({"a": 1, "b": 1})).await;
    one.sync().await;
    one.write("lost", json!({"a": 2})).await;
    stack.restore("copy").await;
    // It learns that something was lost, and not yet what.
    let mut heads = 0;
    stack.proxy.plan(move |request| {
        heads += usize::from(request.path == "/v1/heads");
        if heads >= 2 && request.path == "/v1/pull" { Fate::LoseRequest } else { Fate::Through }
    });
    within(one.engine.pull_all()).await.unwrap_err();
    within(one.engine.drain()).await.unwrap_err();
    stack.proxy.heal();
    assert_eq!(stack.settle(&[&one]).await["lost"], json!({"a": 2, "b": 1, "c": null}));
}
