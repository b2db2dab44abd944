//! Sensitive fields never leave the process unmasked.

use std::{
    error::Error,
    io::Write,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use dynos_sync::{SyncError, json};
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    proxy::{Fate, error_reply},
    stack::{COLUMNS, Device, Setup, Stack, TABLE, holds, object, told},
};

const CANARY: &str = "canary-8d02e6a5";

/// Every log line of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
        subscriber.with_ansi(false).with_writer(log.clone()).init();
        log
    })
}

fn gate(setup: &mut Setup) {
    setup.config.sensitive_fields = vec!["ssn".to_owned(), "profile.phone".to_owned(), "c".to_owned()];
    setup.config.max_payload_bytes = 100_000;
}

/// An error with all that can be seen of it.
fn shown(error: &SyncError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text} {cause} {cause:?}");
        source = cause.source();
    }
    text
}

async fn seen_nowhere(stack: &Stack, devices: &[&Device], told: &str) {
    for device in devices {
        assert!(!holds(&device.bytes(), CANARY), "in the file {:?}", device.path);
        let letters = device.engine.dead_letters().await.unwrap();
        let conflicts = device.engine.conflicts().await.unwrap();
        assert!(!format!("{letters:?} {conflicts:?}").contains(CANARY));
    }
    for request in stack.proxy.seen() {
        assert!(!request.carries(CANARY), "in a request to {}", request.path);
    }
    assert!(!told.contains(CANARY), "in an event or error");
    let log = log().0.lock().unwrap();
    assert!(!log.is_empty() && !holds(&log, CANARY), "in a log line");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_application_writes_is_masked_before_anybody_sees_it() {
    log();
    let stack = Stack::with(|config| config.limits.record_bytes = 2000).await;
    let (one, two) = (stack.device_with("one", gate).await, stack.device_with("two", gate).await);
    let mut events = [one.engine.events(), two.engine.events()];
    let secret = json!({
        "ssn": CANARY,
        "a": {"deep": [{"SSN": CANARY}, [{"ssn": [CANARY]}]]},
        "profile": [{"phone": {"mobile": CANARY}, "city": "Ulm"}],
        "b": 1,
    });
    let masked = json!({
        "ssn": "[REDACTED]",
        "a": {"deep": [{"SSN": "[REDACTED]"}, [{"ssn": "[REDACTED]"}]]},
        "profile": [{"phone": "[REDACTED]", "city": "Ulm"}],
        "b": 1,
    });
    one.write("x", secret.clone()).await;
    one.engine.write_many(TABLE, vec![("y".to_owned(), object(secret.clone()))]).await.unwrap();
    let operation = dynos_sync::Operation::Upsert;
    one.engine.push(TABLE, "pushed", object(json!({"ssn": CANARY})), operation).await.unwrap();
    let records = stack.settle_without_rows(&[&one, &two]).await;
    assert_eq!((&records["x"], &records["y"]), (&masked, &masked));
    assert_eq!(one.get("x").await, Some(masked));
    // A conflict, a refusal, a dead letter, and errors of all kinds.
    two.patch("x", json!({"ssn": CANARY, "b": 2})).await;
    two.sync().await;
    one.patch("x", json!({"ssn": CANARY, "b": 3})).await;
    one.write("big", json!({"ssn": CANARY, "a": "x".repeat(3000)})).await;
    let mut errors = String::new();
    for _ in 0..4 {
        one.sync().await;
        one.clock.advance(Duration::from_secs(3600));
    }
    assert_eq!((one.state().await.conflicts, one.state().await.dead_letters), (1, 1));
    let huge = object(json!({"ssn": CANARY, "a": "x".repeat(200_000)}));
    errors += &shown(&one.engine.write(TABLE, "x", huge).await.unwrap_err());
    errors += &shown(&one.engine.patch(TABLE, "none", object(secret.clone())).await.unwrap_err());
    errors += &shown(&one.engine.write("no such table", "x", object(secret.clone())).await.unwrap_err());
    let mut deep = json!(CANARY);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    errors +=
        &shown(&one.engine.write(TABLE, "x", object(json!({"a": deep, "ssn": CANARY}))).await.unwrap_err());
    one.write("last", secret.clone()).await;
    for status in ["500 Internal Server Error", "400 Bad Request", "200 OK"] {
        stack.proxy.always("/v1/push", move || Fate::Answer(error_reply(status, "internal", "")));
        errors += &shown(&one.engine.drain().await.unwrap_err());
    }
    let events = events.each_mut().map(told);
    assert!(events.iter().all(|events| !events.is_empty()));
    seen_nowhere(&stack, &[&one, &two], &format!("{errors} {events:?}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_masked_too_and_the_databases_own_errors_do_not_quote_them() {
    log();
    let stack = Stack::new().await;
    let schema =
        "CREATE TABLE notes (id TEXT PRIMARY KEY, a CHECK (a > 0), b UNIQUE, c TEXT CHECK (c <> 'x'))";
    let setup = |setup: &mut Setup| {
        gate(setup);
        setup.schema = schema.to_owned();
    };
    let (one, two) = (stack.device_with("one", setup).await, stack.device_with("two", setup).await);
    let mut events = [one.engine.events(), two.engine.events()];
    one.write("x", json!({"a": 1, "b": 1, "c": CANARY})).await;
    let records = stack.settle(&[&one, &two]).await;
    assert_eq!(records["x"], json!({"a": 1, "b": 1, "c": "[REDACTED]"}));
    let mut errors = String::new();
    for refused in
        [json!({"a": 0, "c": CANARY}), json!({"b": 1, "c": CANARY}), json!({"nope": 1, "c": CANARY})]
    {
        errors += &shown(&one.engine.write(TABLE, "y", object(refused)).await.unwrap_err());
    }
    let events = events.each_mut().map(told);
    seen_nowhere(&stack, &[&one, &two], &format!("{errors} {events:?}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_programs_write_is_masked_on_its_way_out() {
    log();
    let stack = Stack::new().await;
    let setup = |setup: &mut Setup| {
        gate(setup);
        setup.schema = COLUMNS.to_owned();
    };
    let (one, two) = (stack.device_with("one", setup).await, stack.device_with("two", setup).await);
    let mut events = one.engine.events();
    one.sql(&format!(
        "INSERT INTO notes VALUES ('x', 1, 1, '{CANARY}'); INSERT INTO notes VALUES ('y', 1, 1, '{CANARY}')"
    ))
    .await;
    one.sync().await;
    one.sql(&format!(
        "UPDATE notes SET a = 2, c = '{CANARY} again' WHERE id = 'x'; DELETE FROM notes WHERE id = 'y'"
    ))
    .await;
    one.sync().await;
    two.sync().await;
    assert_eq!(two.rows(TABLE).await["x"], json!({"a": 2, "b": 1, "c": "[REDACTED]"}));
    let queued = one.engine.conflicts().await.unwrap();
    let told = format!("{:?} {queued:?}", told(&mut events));
    seen_nowhere(&stack, &[&two], &told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_repeats_all_that_it_was_told_reveals_nothing() {
    log();
    let stack = Stack::new().await;
    let one = stack.device_with("one", gate).await;
    let mut events = one.engine.events();
    one.write("x", json!({"ssn": CANARY, "profile": {"phone": CANARY}})).await;
    let mut errors = String::new();
    let mut tokens = Vec::new();
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "409 Conflict",
        "422 Unprocessable",
        "429 Too Many",
        "500 Internal Server Error",
        "503 Service Unavailable",
    ] {
        stack.proxy.plan(move |request| {
            // All of the request, its header with the token too, as code and as message.
            let told = String::from_utf8_lossy(&request.raw).into_owned();
            let body = json!({"error": {"code": told, "message": told}}).to_string();
            Fate::Answer(crate::proxy::reply(status, "content-type: application/json\r\n", body.as_bytes()))
        });
        errors += &shown(&one.engine.drain().await.unwrap_err());
        errors += &shown(&one.engine.pull_all().await.unwrap_err());
        let raw = String::from_utf8_lossy(&stack.proxy.seen()[0].raw).into_owned();
        let token = raw.split("Bearer ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
        tokens.push(token);
    }
    let seen = format!("{errors} {:?}", told(&mut events));
    seen_nowhere(&stack, &[&one], &seen).await;
    let log = log().0.lock().unwrap();
    for token in tokens {
        assert!(
            token.len() > 100
                && !seen.contains(&token)
                && !holds(&log, &token)
                && !holds(&one.bytes(), &token)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_program_wrote_keeps_its_value_on_its_own_device() {
    log();
    let stack = Stack::new().await;
    let setup = |setup: &mut Setup| {
        gate(setup);
        setup.schema = COLUMNS.to_owned();
    };
    let (one, two) = (stack.device_with("one", setup).await, stack.device_with("two", setup).await);
    one.sql(&format!("INSERT INTO notes VALUES ('x', 1, 1, '{CANARY}')")).await;
    stack.settle_without_rows(&[&one, &two]).await;
    two.patch("x", json!({"a": 2})).await;
    stack.settle_without_rows(&[&two, &one]).await;
    assert_eq!(one.get("x").await.unwrap(), json!({"id": "x", "a": 2, "b": 1, "c": CANARY}));
    assert_eq!(two.get("x").await.unwrap(), json!({"id": "x", "a": 2, "b": 1, "c": "[REDACTED]"}));
    seen_nowhere(&stack, &[&two], "").await;
}
