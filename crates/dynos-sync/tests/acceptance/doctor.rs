//! Why a record has not synced is said, and a bundle for support has nothing of the user's in it.

use std::time::Duration;

use dynos_sync::{
    core::doctor::{Conclusion, Depth, Explanation, Level, Local, Names},
    json,
};

use crate::{
    proxy::{Fate, error_reply, reply},
    stack::{Device, START, Stack, TABLE, within},
};

async fn explain(device: &Device, id: &str) -> Explanation {
    device.engine.explain(TABLE, id).await.unwrap()
}

async fn sentence(device: &Device, id: &str) -> String {
    explain(device, id).await.conclusion.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_moment_of_an_edit_has_its_explanation() {
    let stack = Stack::with(|config| config.limits.record_bytes = 1000).await;
    let device = stack.device_with("device", |setup| setup.config.max_retries = 2).await;
    device.write("1", json!({"a": 1})).await;
    assert_eq!(sentence(&device, "1").await, "queued, and not sent yet");
    let explained = explain(&device, "1").await;
    assert_eq!((explained.local, explained.pending.len()), (Local::Created, 1));

    stack.proxy.always("/v1/push", || Fate::LoseReply);
    device.engine.sync_all().await.unwrap_err();
    let said = sentence(&device, "1").await;
    assert!(said.starts_with("sent, and not answered; waits for the network: last error "), "{said}");
    stack.proxy.heal();
    device.sync().await;
    let explained = explain(&device, "1").await;
    assert_eq!(explained.conclusion, Conclusion::Synced { as_of: Some(START) });
    assert_eq!((explained.local, explained.last_failure), (Local::Same, None));

    device.patch("1", json!({"a": "x".repeat(2000), "b": 1})).await;
    device.sync().await;
    let explained = explain(&device, "1").await;
    let Conclusion::Refused { attempts: 1, error: Some(error), wait: Some(wait) } = explained.conclusion
    else {
        panic!("{explained:?}")
    };
    assert!(error.starts_with("too_large: ") && wait > 0, "{error} {wait}");
    assert_eq!(explained.last_answer.unwrap().error, error);
    assert_eq!(explained.next_attempt, Some(START + wait));
    assert_eq!(explained.local, Local::Changed(vec!["a".to_owned(), "b".to_owned()]));

    device.clock.advance(Duration::from_secs(60));
    device.sync().await;
    let explained = explain(&device, "1").await;
    let letter = device.engine.dead_letters().await.unwrap().remove(0);
    assert!(
        matches!(explained.conclusion, Conclusion::DeadLetter { letter: id, .. } if id == letter.id),
        "{explained:?}"
    );
    assert_eq!(explained.letters, [letter]);
    device.patch("1", json!({"a": 2})).await;
    device.sync().await;
    assert_eq!(explain(&device, "1").await.conclusion.word(), "dead_letter", "it waits for a decision");
    let id = explain(&device, "1").await.letters[0].id;
    device.engine.discard_dead_letter(id).await.unwrap();
    assert!(explain(&device, "1").await.conclusion.is_synced());

    assert_eq!(explain(&device, "none").await.conclusion, Conclusion::Absent);
    let elsewhere = device.engine.explain("elsewhere", "1").await.unwrap();
    assert_eq!(elsewhere.conclusion, Conclusion::NotTracked);
    device.engine.explain("dynos_queue", "1").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_the_engine_from_the_server_is_said() {
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    device.sync().await;
    device.write("1", json!({"a": 1})).await;
    stack.proxy.offline();
    within(device.engine.sync_all()).await.unwrap_err();
    let said = sentence(&device, "1").await;
    assert!(said.contains("waits for the network: last error "), "{said}");
    assert!(said.ends_with("next attempt with the next sync"), "{said}");

    let expired = || Fate::Answer(error_reply("401 Unauthorized", "unauthorized", ""));
    stack.proxy.plan(move |_| expired());
    within(device.engine.sync_all()).await.unwrap_err();
    let said = sentence(&device, "1").await;
    assert!(said.starts_with("waits until somebody signs in: "), "{said}");

    stack.proxy.heal();
    device.sync().await;
    assert!(explain(&device, "1").await.conclusion.is_synced());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_syncs_by_itself_says_when_it_tries_again() {
    let stack = Stack::new().await;
    stack.proxy.offline();
    let device = stack.device_with("device", |setup| setup.config.auto_sync = true).await;
    device.write("1", json!({"a": 1})).await;
    crate::stack::until(async || {
        matches!(explain(&device, "1").await.conclusion, Conclusion::Failing { wait: Some(wait), .. } if wait > 0)
    })
    .await;
    device.engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_to_one_user_is_not_told_to_the_next() {
    let stack = Stack::with(|config| config.limits.record_bytes = 1000).await;
    let device = stack.device("device").await;
    device.write("1", json!({"a": "x".repeat(2000)})).await;
    device.sync().await;
    stack.proxy.offline();
    device.engine.sync_all().await.unwrap_err();
    device.engine.logout(true).await.unwrap();
    device.engine.add_table(TABLE, true).await.unwrap();
    device.write("1", json!({"a": 1})).await;
    assert_eq!(sentence(&device, "1").await, "queued, and not sent yet");
    let bundle = device.engine.support_bundle(Depth::Quick, Names::Hidden).await.unwrap();
    assert_eq!(bundle["failures"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_has_nothing_of_the_users_in_it() {
    let stack = Stack::with(|config| config.limits.record_bytes = 1000).await;
    let schema = "CREATE TABLE canary_table (id TEXT PRIMARY KEY, canary_column CANARYTEXT UNIQUE DEFAULT 'canary', owner_id)";
    let device = stack
        .device_with("device", |setup| {
            setup.schema = schema.to_owned();
            setup.tables = vec!["canary_table".to_owned()];
            setup.owner = Some("canary@example.com".to_owned());
            setup.config.sensitive_fields = vec!["canary_secret".to_owned()];
        })
        .await;
    let write = async |id: &str, value: String| {
        let record = crate::stack::object(json!({"canary_column": value}));
        device.engine.write("canary_table", id, record).await.unwrap();
    };
    write("canary-1", "canary value".to_owned()).await;
    device.sync().await;
    write("canary-2", "canary".repeat(1000)).await;
    device.sync().await;
    device
        .sql("INSERT INTO canary_table VALUES ('canary-3', 'canary other', 'somebody@canary.example')")
        .await;
    write("canary-4", "canary pending".to_owned()).await;
    let error = json!({"error": {"code": "canary_code", "message": "constraint: canary is taken, token canary.canary"}});
    let refusal =
        reply("400 Bad Request", "content-type: application/json\r\n", error.to_string().as_bytes());
    stack.proxy.plan(move |_| Fate::Answer(refusal.clone()));
    device.engine.sync_all().await.unwrap_err();

    let bundle = device.engine.support_bundle(Depth::Full, Names::Hidden).await.unwrap();
    let text = bundle.to_string();
    assert!(!text.to_lowercase().contains("canary"), "{bundle:#}");
    assert!(!text.contains(&stack.proxy.url()) && !text.contains("127.0.0.1"), "{bundle:#}");
    assert!(!text.contains(&stack.token("ada")), "{bundle:#}");
    let state = device.state().await;
    for secret in [state.replica.to_string(), state.server.unwrap(), device.path.display().to_string()] {
        assert!(!text.contains(&secret), "{secret}: {bundle:#}");
    }

    assert_eq!(bundle["replica"]["dead_letters"], 1, "{bundle:#}");
    let t = &bundle["tables"]["t1"];
    assert_eq!(t["holds"]["refused"], 1, "{bundle:#}");
    assert_eq!(t["holds"]["dead_letters"], json!({"forbidden; names another owner": 1}), "{bundle:#}");
    assert_eq!(t["shape"]["columns"][1]["type"], "text", "{bundle:#}");
    let failures = bundle["failures"].as_array().unwrap();
    assert!(
        failures
            .iter()
            .any(|failed| failed["kind"] == "server"
                && failed["error"].as_str().unwrap().contains("constraint")),
        "{bundle:#}"
    );
    assert_eq!(bundle["metrics"]["dynos_device_refusals_total"], 1, "{bundle:#}");
    assert_eq!(bundle["storage"]["tables_version"], "8", "{bundle:#}");

    let named = device.engine.support_bundle(Depth::Quick, Names::Kept).await.unwrap();
    assert!(named["tables"]["canary_table"].is_object(), "{named:#}");
    let without = named.to_string().replace("canary_table", "").replace("canary_column", "");
    assert!(!without.to_lowercase().contains("canary"), "{named:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_tells_what_somebody_has_to_decide() {
    let stack = Stack::with(|config| config.limits.record_bytes = 1000).await;
    let device = stack.device_with("device", |setup| setup.config.max_retries = 1).await;
    let words = async || -> Vec<(Level, &'static str)> {
        let inspection = device.engine.inspect(Depth::Full).await.unwrap();
        inspection.findings.iter().map(|finding| (finding.level, finding.check)).collect()
    };
    assert_eq!(words().await, [(Level::Note, "server")]);
    device.sync().await;
    assert_eq!(words().await, []);
    device.write("1", json!({"a": "x".repeat(2000)})).await;
    device.sync().await;
    assert_eq!(words().await, [(Level::Warning, "dead_letters")]);
}
