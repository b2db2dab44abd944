//! The log says what happened, and nothing of what was said.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use dynos_sync_core::{Operation, json};
use support::*;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn neither_contents_nor_tokens_nor_names_are_logged() {
    let log = Log::default();
    let filter = EnvFilter::new("dynos_sync_server=trace");
    tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).with_writer(log.clone()).init();
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice@s3cret.example", 1);
    one.declare(&["t"]).await;
    one.push(vec![
        upsert(1, "s3cret id", json!({"s3cret field": "s3cret value"})),
        entry(2, Operation::Patch, "s3cret too", json!({"s3cret": 1})),
    ])
    .await;
    one.try_push(vec![upsert(1, "s3cret id", json!({"forked": "s3cret"}))]).await;
    one.try_pull("s3cret", None).await;
    one.post("/v1/push", &json!({"s3cret": "s3cret"})).await;
    one.get("/v1/s3cret?s3cret=1").await;
    Device { token: "s3cret".to_owned(), ..one.clone() }.get("/v1/tables").await;
    server.stop().await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for part in [
        r#"method=POST route="/v1/push" subject="#,
        r#"route="other" status=404"#,
        "status=401",
        "status=409",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains("s3cret") && !text.contains(&one.token), "{text}");
}
