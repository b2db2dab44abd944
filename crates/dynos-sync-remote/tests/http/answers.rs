//! Successes that are none, and answers to another question.

use dynos_sync_core::{
    Operation, Remote, RemoteError, ReplicaId, TableSpec, fields,
    wire::{HeadsRequest, PushEntry, PushRequest},
};

use crate::server::{Reply, Server, Then, pull};

const PAGE: &str =
    r#"{"changes":[{"id":"a","seq":1,"at":2,"record":{"n":1.5}}],"next":"c","has_more":false}"#;

async fn pulled(reply: Reply) -> Result<dynos_sync_core::wire::Page, RemoteError> {
    Server::always(reply).await.remote().pull(pull(1)).await
}

async fn problem(reply: Reply) -> String {
    match pulled(reply).await.unwrap_err() {
        RemoteError::Protocol(problem) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_page_is_read() {
    for kind in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
        let page = pulled(Reply::new(200, &format!("content-type: {kind}\r\n"), PAGE)).await.unwrap();
        assert_eq!((page.changes[0].seq, page.next.as_str()), (1, "c"), "{kind}");
    }
}

#[tokio::test]
async fn other_bodies_are_refused_by_what_they_are() {
    let html = problem(Reply::new(200, "content-type: text/html; charset=utf-8\r\n", "<html>")).await;
    assert!(html.contains("text/html"), "{html}");
    let untyped = problem(Reply::new(200, "", PAGE)).await;
    assert!(untyped.contains("does not say"), "{untyped}");
    for (body, problem_is) in [
        ("", "ends early"),
        (r#"{"changes":[{"id":"a""#, "ends early"),
        ("<html>", "not well-formed"),
        (r#"{"changes":7,"next":"c","has_more":false}"#, "not what was expected"),
        (r#"{"changes":[],"next":"c","has_more":"canary"}"#, "not what was expected"),
        (r#"{"changes":[{"id":"","seq":1,"at":2}],"next":"c","has_more":false}"#, "not what was expected"),
        (r#"[]"#, "not what was expected"),
        ("\u{feff}{}", "not well-formed"),
    ] {
        let found = problem(Reply::json(200, body)).await;
        assert!(found.contains(problem_is) && !found.contains("canary"), "{body}: {found}");
    }
    let deep = format!(r#"{{"changes":[{{"id":"a","record":{{"x":{}"#, "[".repeat(100_000));
    assert!(problem(Reply::json(200, &deep)).await.contains("well-formed"));
    let invalid_utf8 = Reply::new(200, "content-type: application/json\r\n", b"{\"next\":\"\xff\"}");
    problem(invalid_utf8).await;
}

#[tokio::test]
async fn what_was_cut_off_on_the_wire_is_transient() {
    for head in ["content-length: 999", "transfer-encoding: chunked"] {
        let body =
            if head.starts_with('c') { PAGE.to_owned() } else { format!("{:x}\r\n{PAGE}", PAGE.len() + 9) };
        let reply = format!("HTTP/1.1 200 X\r\ncontent-type: application/json\r\n{head}\r\n\r\n{body}");
        let error = pulled(Reply::raw(reply, Then::Close)).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }
}

#[tokio::test]
async fn no_http_at_all_is_transient() {
    for bytes in ["", "SSH-2.0-OpenSSH_9\r\n", "HTTP/1.1 2"] {
        let error = pulled(Reply::raw(bytes, Then::Close)).await.unwrap_err();
        assert!(error.is_transient(), "{bytes:?}: {error:?}");
    }
    let server = Server::bind(|_| Reply::tables()).await.0;
    let error = server.remote().tables().await.unwrap_err();
    assert!(error.is_transient(), "nobody listens: {error:?}");
}

#[tokio::test]
async fn a_page_may_not_be_longer_than_asked_for() {
    assert!(pulled(Reply::json(200, PAGE)).await.is_ok());
    let error = Server::always(Reply::json(200, PAGE)).await.remote().pull(pull(0)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn every_entry_has_its_result() {
    let entry = PushEntry {
        counter: 1,
        table: "tasks".parse().unwrap(),
        id: "a".parse().unwrap(),
        op: Operation::Upsert,
        base: None,
        at: 5,
        data: Some(fields([("title", "milk".into())])),
        transaction: None,
    };
    let request = PushRequest::new(ReplicaId::from_random([1; 16]), vec![entry]);
    for (results, fits) in [(0, false), (1, true), (2, false)] {
        let result = vec![r#"{"status":"applied","seq":4}"#; results].join(",");
        let server =
            Server::always(Reply::json(200, &format!(r#"{{"results":[{result}],"heads":{{}}}}"#))).await;
        let answer = server.remote().push(&request).await;
        assert_eq!(answer.is_ok(), fits, "{answer:?}");
        assert!(fits || matches!(answer, Err(RemoteError::Protocol(_))));
        let sent: PushRequest = serde_json::from_slice(&server.seen()[0].body).unwrap();
        assert_eq!(sent, request);
    }
}

#[tokio::test]
async fn every_table_has_its_head() {
    let request = HeadsRequest {
        replica: ReplicaId::from_random([1; 16]),
        tables: vec!["a".parse().unwrap(), "b".parse().unwrap()],
    };
    for (heads, fits) in
        [(r#""a":"1","b":"2""#, true), (r#""a":"1","b":"2","c":"3""#, true), (r#""a":"1""#, false)]
    {
        let body = format!(r#"{{"server":"s","last_counter":0,"heads":{{{heads}}}}}"#);
        let answer = Server::always(Reply::json(200, &body)).await.remote().heads(request.clone()).await;
        assert_eq!(answer.is_ok(), fits, "{answer:?}");
        assert!(fits || matches!(answer, Err(RemoteError::Protocol(_))));
    }
}

#[tokio::test]
async fn declarations_go_both_ways() {
    let spec = TableSpec::document("tasks".parse().unwrap());
    let body = r#"{"tables":[{"name":"tasks","shape":{"kind":"document"}}]}"#;
    let server = Server::always(Reply::json(200, body)).await;
    server.remote().declare(std::slice::from_ref(&spec)).await.unwrap();
    assert_eq!(server.remote().tables().await.unwrap(), [spec]);
    let seen = server.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/v1/tables"));
    assert_eq!((seen[1].method.as_str(), seen[1].path.as_str()), ("GET", "/v1/tables"));
    assert_eq!(String::from_utf8_lossy(&seen[0].body), body);

    let keyless = r#"{"tables":[{"name":"t","shape":{"kind":"columns","columns":[],"key":[]}}]}"#;
    let error = Server::always(Reply::json(200, keyless)).await.remote().tables().await.unwrap_err();
    assert!(matches!(error, RemoteError::Protocol(_)), "{error:?}");
}
