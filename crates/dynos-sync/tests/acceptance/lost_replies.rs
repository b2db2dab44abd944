//! A lost answer is never a conflict with oneself, and nothing takes effect twice.

use dynos_sync::{Strategy, SyncEvent, json};

use crate::{
    proxy::Fate,
    stack::{COLUMNS, Device, Stack, built_in, told},
};

async fn pair(stack: &Stack, strategy: &Strategy, schema: &str) -> (Device, Device) {
    let device = async |name| {
        let setup = |setup: &mut crate::stack::Setup| {
            setup.schema = schema.to_owned();
            setup.config.conflict_strategy = strategy.clone();
        };
        stack.device_with(name, setup).await
    };
    (device("one").await, device("two").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_on_top_of_one_whose_reply_was_lost_is_no_conflict() {
    for strategy in built_in() {
        for (schema, pull_first) in [("", false), ("", true), (COLUMNS, false), (COLUMNS, true)] {
            let context = format!("{strategy:?} {schema} pull_first={pull_first}");
            let stack = Stack::new().await;
            let (one, two) = pair(&stack, &strategy, schema).await;
            one.write("seen", json!({"a": 0, "b": 0, "c": "c"})).await;
            one.write("deleted", json!({"a": 0})).await;
            stack.settle(&[&one, &two]).await;
            let mut events = one.engine.events();
            stack.proxy.once("/v1/push", Fate::LoseReply);
            one.patch("seen", json!({"a": 1})).await;
            one.write("new", json!({"a": 1, "b": 0, "c": "c"})).await;
            one.remove("deleted").await;
            assert!(one.engine.drain().await.unwrap_err().is_transient(), "{context}");
            assert_eq!(one.state().await.pending, 3, "{context}");
            two.sync().await;
            two.patch("seen", json!({"b": 2})).await;
            two.patch("new", json!({"b": 2})).await;
            two.write("deleted", json!({"a": 9})).await;
            two.sync().await;
            if pull_first {
                one.engine.pull_all().await.unwrap();
            } else {
                one.engine.drain().await.unwrap();
            }
            let both = json!({"a": 1, "b": 2, "c": "c"});
            let records = stack.settle(&[&one, &two]).await;
            assert_eq!((&records["seen"], &records["new"]), (&both, &both), "{context}");
            assert_eq!(
                records["deleted"]["a"],
                json!(9),
                "{context}: created again after the delete was seen"
            );
            let conflicts = told(&mut events).into_iter().filter(|e| matches!(e, SyncEvent::Conflict { .. }));
            assert_eq!(conflicts.count(), 0, "{context}");
            assert_eq!((one.state().await.conflicts, two.state().await.conflicts), (0, 0), "{context}");
            assert_eq!(one.state().await.dead_letters, 0, "{context}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn later_edits_of_a_record_whose_reply_was_lost_go_on_top() {
    for pull_first in [false, true] {
        let stack = Stack::new().await;
        let (one, two) = pair(&stack, &Strategy::LastWriteWins, "").await;
        stack.proxy.once("/v1/push", Fate::LoseReply);
        one.write("x", json!({"a": 1})).await;
        one.engine.drain().await.unwrap_err();
        one.patch("x", json!({"b": 1})).await;
        if pull_first {
            one.engine.pull_all().await.unwrap();
        }
        let records = stack.settle(&[&one, &two]).await;
        assert_eq!(records["x"], json!({"a": 1, "b": 1}));
        assert_eq!(one.state().await.conflicts, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_push_takes_effect_once() {
    let stack = Stack::new().await;
    let (one, two) = pair(&stack, &Strategy::LastWriteWins, "").await;
    stack.proxy.once("/v1/push", Fate::LoseReply);
    one.write("x", json!({"a": 1})).await;
    one.engine.drain().await.unwrap_err();
    two.sync().await;
    two.remove("x").await;
    two.sync().await;
    let report = one.engine.drain().await.unwrap();
    assert_eq!(report.pushed, 1);
    // The repeat did not bring the record back, and nobody else hears of anything.
    assert_eq!(two.sync().await.pull.rows(), 0);
    assert!(stack.settle(&[&one, &two]).await.is_empty());
    assert_eq!(one.state().await.conflicts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_arrives_after_a_newer_one_changes_nothing() {
    let stack = Stack::new().await;
    let (one, two) = pair(&stack, &Strategy::LastWriteWins, "").await;
    one.write("x", json!({"a": 0})).await;
    one.write("y", json!({"a": 0})).await;
    stack.settle(&[&one, &two]).await;
    stack.proxy.forget();
    // It never arrives, as far as the device can tell.
    stack.proxy.once("/v1/push", Fate::LoseRequest);
    one.write("x", json!({"a": 1})).await;
    one.remove("y").await;
    one.engine.drain().await.unwrap_err();
    one.write("x", json!({"a": 2})).await;
    one.write("y", json!({"a": 2})).await;
    one.sync().await;
    two.sync().await;
    two.patch("x", json!({"b": 2})).await;
    let before = stack.settle(&[&one, &two]).await;
    assert_eq!(before, [("x".to_owned(), json!({"a": 2, "b": 2})), ("y".to_owned(), json!({"a": 2}))].into());
    for push in stack.proxy.seen_at("/v1/push") {
        let answer = stack.proxy.replay(&push).await;
        for result in answer["results"].as_array().unwrap() {
            assert_eq!(result["status"], json!("duplicate"), "{answer}");
        }
    }
    assert_eq!(two.sync().await.pull.rows() + one.sync().await.pull.rows(), 0);
    assert_eq!(stack.settle(&[&one, &two]).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_copy_of_a_refused_push_is_refused_again() {
    let stack = Stack::with(|config| config.limits.record_bytes = 1000).await;
    let (one, two) = pair(&stack, &Strategy::LastWriteWins, "").await;
    one.write("x", json!({"a": "x".repeat(2000)})).await;
    one.sync().await;
    one.write("x", json!({"a": "small"})).await;
    one.clock.advance(std::time::Duration::from_secs(3600));
    let before = stack.settle(&[&one, &two]).await;
    stack.stop().await;
    stack.configure(|_| ());
    stack.start().await;
    // The server would take it now, but its author has given it up.
    let first = &stack.proxy.seen_at("/v1/push")[0];
    assert_eq!(stack.proxy.replay(first).await["results"][0]["status"], json!("rejected"));
    assert_eq!(stack.settle(&[&one, &two]).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_answer_never_comes_is_given_up_repeated_and_counts_once() {
    let stack = Stack::new().await;
    let impatient = |setup: &mut crate::stack::Setup| {
        setup.remote = Box::new(|remote| remote.timeout(std::time::Duration::from_millis(1500)));
    };
    let (one, two) = (stack.device_with("one", impatient).await, stack.device("two").await);
    one.sync().await;
    stack.proxy.forget();
    stack.proxy.once("/v1/push", Fate::HoldReply);
    one.write("x", json!({"a": 1})).await;
    // The server has it, and the connection stays open.
    assert!(one.engine.drain().await.unwrap_err().is_transient());
    two.sync().await;
    two.patch("x", json!({"a": 2})).await;
    two.sync().await;
    one.engine.drain().await.unwrap();
    let pushes = stack.proxy.seen_at("/v1/push");
    let entries: Vec<_> = pushes.iter().map(|push| push.body()["entries"].clone()).collect();
    assert_eq!(entries[0], entries[entries.len() - 1], "the repeat is the same to the byte");
    assert_eq!(stack.settle(&[&one, &two]).await["x"], json!({"a": 2}));
    assert_eq!(one.state().await.conflicts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_byte_by_byte_or_not_at_all_are_enough() {
    let stack = Stack::new().await;
    let (one, two) = pair(&stack, &Strategy::LastWriteWins, COLUMNS).await;
    for n in 0..100 {
        one.write(&format!("r{n}"), json!({"a": n})).await;
    }
    let mut n = 0;
    stack.proxy.plan(move |_| {
        n += 1;
        if n % 10 == 3 { Fate::LoseReply } else { Fate::Drip }
    });
    for _ in 0..3 {
        for device in [&one, &two] {
            let _ = device.engine.sync_all().await;
        }
    }
    stack.proxy.heal();
    assert_eq!(stack.settle(&[&one, &two]).await.len(), 100);
    assert_eq!((one.state().await.conflicts, two.state().await.conflicts), (0, 0));
}
