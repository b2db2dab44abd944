//! The entries of a record take effect in their order, and a bad one holds up nobody else.

use std::time::Duration;

use dynos_sync::{SyncEvent, core::Value, json};

use crate::{
    proxy::{Fate, error_reply},
    stack::{COLUMNS, Device, Stack, TABLE, told, within},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn big() -> Value {
    json!({"a": "x".repeat(2000)})
}

/// A server that takes small records only.
async fn strict() -> Stack {
    Stack::with(|config| config.limits.record_bytes = 1000).await
}

/// Syncs until the server has refused the record for good.
async fn refuse(device: &Device) {
    for _ in 0..3 {
        device.sync().await;
        device.clock.advance(DAY);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_and_create_again_and_delete_end_as_written() {
    for schema in ["", COLUMNS] {
        for between in [false, true] {
            let stack = Stack::new().await;
            let device = async |name| stack.device_with(name, |setup| setup.schema = schema.to_owned()).await;
            let (one, two) = (device("one").await, device("two").await);
            for id in ["gone", "back", "new"] {
                one.write(id, json!({"a": 1, "b": 1, "c": "old"})).await;
            }
            stack.settle(&[&one, &two]).await;
            let pause = async || {
                if between {
                    drop(one.sync().await);
                }
            };
            for id in ["gone", "back"] {
                one.remove(id).await;
                pause().await;
                one.write(id, json!({"a": 2})).await;
                pause().await;
            }
            one.remove("gone").await;
            pause().await;
            one.patch("back", json!({"b": 3})).await;
            pause().await;
            one.write("brief", json!({"a": 1})).await;
            pause().await;
            one.remove("brief").await;
            let records = stack.settle(&[&one, &two]).await;
            let back =
                if schema.is_empty() { json!({"a": 2, "b": 3}) } else { json!({"a": 2, "b": 3, "c": null}) };
            let new = json!({"a": 1, "b": 1, "c": "old"});
            // With columns, what a re-created record does not name is reset, not kept.
            assert_eq!(records["new"], new);
            let found = &records["back"];
            assert_eq!(
                (&found["a"], &found["b"], found["c"].is_null()),
                (&back["a"], &back["b"], true),
                "{between}"
            );
            assert_eq!(records.len(), 2, "{records:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_waits_and_is_waited_for_by_its_own_later_entries_only() {
    let stack = strict().await;
    let (one, two) = (stack.device("one").await, stack.device("two").await);
    let mut events = one.engine.events();
    one.write("bad", big()).await;
    one.write("good", json!({"a": 1})).await;
    one.sync().await;
    let retry = told(&mut events).into_iter().find_map(|event| match event {
        SyncEvent::RetryScheduled { entry, next_retry_at, .. } => {
            Some((entry.key.id.to_string(), next_retry_at))
        }
        _ => None,
    });
    let (id, retry_at) = retry.unwrap();
    assert_eq!(id, "bad");
    assert!(retry_at > one.clock.now());
    stack.proxy.forget();
    one.patch("bad", json!({"b": 1})).await;
    one.write("other", json!({"a": 1})).await;
    one.clock.set(retry_at - 1);
    one.sync().await;
    let sent: Vec<String> =
        stack.proxy.seen_at("/v1/push").iter().flat_map(crate::proxy::Request::ids).collect();
    assert_eq!(sent, ["other"], "the bad record's later entry does not overtake it");
    // Now it fits: both edits arrive, as one.
    one.write("bad", json!({"a": "small"})).await;
    one.clock.set(retry_at);
    let records = stack.settle(&[&one, &two]).await;
    assert_eq!(records["bad"], json!({"a": "small", "b": 1}));
    assert_eq!(records.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_refused_for_good_becomes_a_dead_letter_and_its_row_the_servers() {
    let stack = strict().await;
    let (one, two) = (stack.device("one").await, stack.device("two").await);
    one.write("bad", json!({"a": "before"})).await;
    stack.settle(&[&one, &two]).await;
    let mut events = one.engine.events();
    one.write("bad", big()).await;
    one.sync().await;
    one.patch("bad", json!({"b": "later"})).await;
    one.write("good", json!({"a": 1})).await;
    one.clock.advance(DAY);
    one.sync().await;
    one.clock.advance(DAY);
    one.sync().await;
    let letters = one.engine.dead_letters().await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.key.id.as_str(), letter.code.as_str()), ("bad", "too_large"));
    assert!(told(&mut events).iter().any(|event| matches!(event, SyncEvent::PoisonPill { .. })));
    let records = stack.settle(&[&one, &two]).await;
    assert_eq!(records["bad"], json!({"a": "before"}), "all agree again");
    assert_eq!(records["good"], json!({"a": 1}));

    // The server's limit is raised: the letter is sent after all, with all of its edits.
    stack.stop().await;
    stack.configure(|_| ());
    stack.start().await;
    one.engine.retry_dead_letter(letter.id).await.unwrap();
    assert!(one.engine.dead_letters().await.unwrap().is_empty());
    let records = stack.settle(&[&one, &two]).await;
    let mut whole = big();
    whole["b"] = json!("later");
    assert_eq!(records["bad"], whole);
    assert!(one.engine.retry_dead_letter(letter.id).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_dead_letter_is_gone_and_the_record_goes_on() {
    let stack = strict().await;
    let (one, two) = (stack.device("one").await, stack.device("two").await);
    one.write("bad", big()).await;
    refuse(&one).await;
    let letters = one.engine.dead_letters().await.unwrap();
    assert_eq!((letters.len(), one.get("bad").await), (1, None), "the server has no such record");
    one.engine.discard_dead_letter(letters[0].id).await.unwrap();
    assert!(one.engine.discard_dead_letter(letters[0].id).await.is_err());
    one.write("bad", json!({"a": 1})).await;
    assert_eq!(stack.settle(&[&one, &two]).await["bad"], json!({"a": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_row_stays_as_the_user_left_it_where_that_is_asked_for() {
    let stack = strict().await;
    let one = stack.device_with("one", |setup| setup.config.keep_refused = true).await;
    one.write("bad", big()).await;
    refuse(&one).await;
    assert_eq!(one.state().await.dead_letters, 1);
    assert_eq!(one.get("bad").await, Some(big()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_row_is_that_rows_alone() {
    let stack = Stack::new().await;
    let one = stack.device("one").await;
    for id in ["a", "b", "c"] {
        one.write(id, json!({"a": 1})).await;
    }
    // The server would take all three; the one in the middle is answered in its place.
    stack.proxy.plan(|request| match request.path.as_str() {
        "/v1/push" => {
            let bad = request.ids().iter().position(|id| id == "b");
            Fate::Rewrite(Box::new(move |answer| {
                if let Some(bad) = bad {
                    answer["results"][bad] =
                        json!({"status": "rejected", "code": "forbidden", "message": "no"});
                }
            }))
        }
        _ => Fate::Through,
    });
    refuse(&one).await;
    let letters = one.engine.dead_letters().await.unwrap();
    let found: Vec<_> = letters.iter().map(|letter| (letter.key.id.as_str(), letter.code.as_str())).collect();
    assert_eq!(found, [("b", "forbidden")]);
    assert_eq!(one.state().await.pending, 0);
    assert_eq!(one.get("a").await, Some(json!({"a": 1})));
    assert_eq!(one.get("b").await, None, "the row was not there before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_large_is_halved_until_it_fits() {
    let stack = Stack::with(|config| config.limits.body_bytes = 4000).await;
    let (one, two) = (stack.device("one").await, stack.device("two").await);
    for n in 0..20 {
        one.write(&format!("r{n:02}"), json!({"a": "y".repeat(500)})).await;
    }
    one.write("huge", json!({"a": "z".repeat(5000)})).await;
    one.sync().await;
    two.sync().await;
    assert_eq!(two.rows(TABLE).await.len(), 20);
    let letters = one.engine.dead_letters().await.unwrap();
    assert_eq!((letters.len(), letters[0].key.id.as_str()), (1, "huge"), "alone it is too large as well");
    assert_eq!(one.state().await.pending, 0);
}

/// A proxy in between may change its mind about sizes; what had got through before is not given up.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_only_when_it_is_repeated_is_not_given_up() {
    let stack = Stack::new().await;
    let (one, two) = (stack.device("one").await, stack.device("two").await);
    one.sync().await;
    one.write("a", json!({"a": 1})).await;
    stack.proxy.once("/v1/push", Fate::LoseReply);
    within(one.engine.drain()).await.unwrap_err();
    stack.proxy.once("/v1/push", Fate::Answer(error_reply("413 Payload Too Large", "too_large", "")));
    one.sync().await;
    let state = one.state().await;
    assert_eq!((state.pending, state.dead_letters), (0, 0));
    assert_eq!(stack.settle(&[&one, &two]).await["a"], json!({"a": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_413_ends() {
    let stack = Stack::new().await;
    let one = stack.device("one").await;
    for n in 0..10 {
        one.write(&format!("r{n}"), json!({"a": n})).await;
    }
    stack.proxy.always("/v1/push", || Fate::Answer(error_reply("413 Payload Too Large", "too_large", "")));
    one.sync().await;
    assert_eq!(one.state().await.dead_letters, 10, "each alone is too large, says the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_a_request_is_on_its_way_comes_after_it_and_is_not_lost() {
    for path in ["/v1/heads", "/v1/push", "/v1/pull"] {
        for schema in ["", COLUMNS] {
            let stack = Stack::new().await;
            let device = async |name| stack.device_with(name, |setup| setup.schema = schema.to_owned()).await;
            let (one, two) = (device("one").await, device("two").await);
            for id in ["mine", "gone", "both"] {
                one.write(id, json!({"a": 1})).await;
            }
            stack.settle(&[&one, &two]).await;
            two.patch("both", json!({"b": "theirs"})).await;
            two.sync().await;
            one.patch("mine", json!({"a": 2})).await;
            let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
            let waiting = std::sync::Arc::clone(&gate);
            stack.proxy.forget();
            stack.proxy.always(path, move || Fate::Wait(std::sync::Arc::clone(&waiting)));
            let engine = one.engine.clone();
            let syncing = tokio::spawn(async move { engine.sync_all().await });
            stack.proxy.arrival(path).await;
            one.patch("mine", json!({"b": 3})).await;
            one.write("new", json!({"a": 3})).await;
            one.remove("gone").await;
            one.patch("both", json!({"c": "mine"})).await;
            gate.add_permits(1000);
            crate::stack::within(syncing).await.unwrap().unwrap();
            stack.proxy.heal();
            let records = stack.settle(&[&one, &two]).await;
            assert_eq!((&records["mine"]["a"], &records["mine"]["b"]), (&json!(2), &json!(3)), "{path}");
            assert_eq!((&records["new"]["a"], records.contains_key("gone")), (&json!(3), false), "{path}");
            assert_eq!(records["both"]["c"], json!("mine"), "{path}: the later edit");
            let pushes = stack.proxy.seen_at("/v1/push");
            let entries = pushes.iter().flat_map(|push| push.body()["entries"].as_array().cloned().unwrap());
            let of_mine =
                entries.filter(|entry| entry["id"] == json!("mine")).map(|entry| entry["counter"].as_u64());
            assert!(of_mine.collect::<Vec<_>>().is_sorted(), "{path}");
        }
    }
}
