//! The token and the records stay out of everything that is shown.

use std::{
    io,
    sync::{Arc, Mutex},
};

use dynos_sync_core::{
    Operation, Remote, ReplicaId, fields,
    wire::{PushEntry, PushRequest},
};
use dynos_sync_remote::{HttpRemote, Secret, StaticToken};
use futures_util::StreamExt;

use crate::server::{Reply, Seen, Server, Then, pull};

const TOKEN: &str = "canary.token.9f3";
const RECORD: &str = "canary-record-77";

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn push() -> PushRequest {
    let entry = PushEntry {
        counter: 1,
        table: "tasks".parse().unwrap(),
        id: "a".parse().unwrap(),
        op: Operation::Upsert,
        base: None,
        at: 5,
        data: Some(fields([("title", RECORD.into())])),
        transaction: None,
    };
    PushRequest::new(ReplicaId::from_random([1; 16]), vec![entry])
}

/// Servers that repeat what they were told, in every way that reaches a message.
fn echoes() -> Vec<fn(&Seen) -> Reply> {
    fn error(seen: &Seen, status: u16) -> Reply {
        let token = seen.header("authorization");
        Reply::json(status, &format!(r#"{{"error":{{"code":"{token}","message":"bad {token}"}}}}"#))
    }
    vec![
        |seen| error(seen, 400),
        |seen| error(seen, 401),
        |seen| error(seen, 403),
        |seen| error(seen, 409),
        |seen| error(seen, 500),
        |seen| Reply::new(307, &format!("location: http://localhost:1/{TOKEN}{}\r\n", seen.path), ""),
        |_| Reply::new(200, &format!("content-type: text/{TOKEN}\r\n"), RECORD),
        |_| {
            Reply::json(200, &format!(r#"{{"results":"{RECORD}","changes":"{RECORD}","tables":"{RECORD}"}}"#))
        },
        |_| Reply::json(200, &format!(r#"{{"results":[{{"status":"{RECORD}"}}],"heads":{{}}}}"#)),
        |_| Reply::json(200, RECORD),
        |_| Reply::raw(format!("HTTP/1.1 {TOKEN}\r\n{RECORD}\r\n\r\n"), Then::Close),
        |_| {
            Reply::raw(
                format!("HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n\r\ndata: {RECORD}\n\n"),
                Then::Close,
            )
        },
    ]
}

#[tokio::test]
async fn nothing_shows_the_token_or_a_record() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut shown = format!("{:?} {:?}", Secret::new(TOKEN), StaticToken::new(TOKEN));
    for echo in echoes() {
        let server = Server::start(echo).await;
        let builder = HttpRemote::builder(server.url()).token(TOKEN);
        shown += &format!("{builder:?}");
        let remote = builder.build().unwrap();
        let errors = [
            remote.push(&push()).await.unwrap_err(),
            remote.pull(pull(1)).await.unwrap_err(),
            remote.tables().await.unwrap_err(),
        ];
        shown += &format!("{remote:?} {errors:?}");
        errors.iter().for_each(|error| shown += &error.to_string());
        assert!(remote.hints().all(|hint| std::future::ready(hint.tables.is_empty())).await);
    }
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("answered") && logged.contains("hints ended"), "{logged}");
    for text in [shown, logged] {
        assert!(!text.contains(TOKEN) && !text.contains(RECORD), "{text}");
    }
}
