//! Every row of the protocol's table of statuses.

use std::time::Duration;

use dynos_sync_core::{Remote, RemoteError, wire::Expired};

use crate::server::{Reply, Server, pull};

async fn failure(reply: Reply) -> RemoteError {
    Server::always(reply).await.remote().pull(pull(10)).await.unwrap_err()
}

fn refused(error: &RemoteError) -> (&str, &str) {
    match error {
        RemoteError::Refused { code, message } => (code, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn refusals_carry_the_servers_code_and_message() {
    for (status, code) in
        [(400, "invalid"), (404, "not_found"), (405, "invalid"), (415, "invalid"), (422, "invalid")]
    {
        let error = failure(Reply::error(status, code)).await;
        assert_eq!(refused(&error), (code, "told so"), "{status}");
    }
    assert_eq!(refused(&failure(Reply::error(403, "whatever")).await), ("forbidden", "told so"));
    assert_eq!(refused(&failure(Reply::error(418, "teapot")).await), ("teapot", "told so"));
}

#[tokio::test]
async fn statuses_hold_without_the_protocols_body() {
    let html = |status| Reply::new(status, "content-type: text/html\r\n", "<html>proxy</html>");
    assert_eq!(refused(&failure(html(404)).await).0, "not_found");
    assert_eq!(refused(&failure(html(400)).await).0, "invalid");
    assert_eq!(refused(&failure(html(403)).await).0, "forbidden");
    assert!(failure(html(401)).await.is_auth());
    assert!(matches!(failure(html(413)).await, RemoteError::TooLarge));
    let error = failure(html(502)).await;
    assert!(error.is_transient() && error.to_string().contains("502"), "{error}");
}

#[tokio::test]
async fn an_expired_session_is_told() {
    match failure(Reply::error(401, "unauthorized")).await {
        RemoteError::AuthExpired { message } => assert_eq!(message, "told so"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_fork_is_believed_only_from_a_sync_server() {
    assert!(matches!(failure(Reply::error(409, "replica_forked")).await, RemoteError::ReplicaForked));
    assert_eq!(refused(&failure(Reply::error(409, "conflict")).await).0, "conflict");
    assert_eq!(refused(&failure(Reply::new(409, "", "")).await).0, "invalid");
}

#[tokio::test]
async fn an_expired_cursor_carries_its_reason() {
    let gone = |expired: &str| {
        Reply::json(410, &format!(r#"{{"error":{{"code":"cursor_expired","message":""{expired}}}}}"#))
    };
    let error = failure(gone(r#","expired":{"reason":"purged"}"#)).await;
    assert!(matches!(error, RemoteError::CursorExpired(Expired::Purged)), "{error:?}");
    let error = failure(gone(r#","expired":{"reason":"rolled_back","common":7}"#)).await;
    assert!(
        matches!(error, RemoteError::CursorExpired(Expired::RolledBack { common: 7, own: None })),
        "{error:?}"
    );
    assert!(matches!(failure(gone("")).await, RemoteError::Protocol(_)));
    assert_eq!(refused(&failure(Reply::error(410, "gone")).await).0, "gone");
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_told() {
    assert!(matches!(failure(Reply::error(413, "too_large")).await, RemoteError::TooLarge));
}

#[tokio::test]
async fn what_may_pass_later_is_transient() {
    for status in [408, 425, 429, 500, 502, 503, 504, 599] {
        let error = failure(Reply::error(status, "unavailable")).await;
        assert!(error.is_transient() && error.to_string().contains("told so"), "{status}: {error:?}");
        assert_eq!(error.retry_after(), None);
        let wish = Reply::new(status, "retry-after: 17\r\n", "");
        assert_eq!(failure(wish).await.retry_after(), Some(Duration::from_secs(17)), "{status}");
    }
}

#[tokio::test]
async fn wishes_to_wait_are_read_in_both_forms_and_clamped() {
    for (value, seconds) in [
        ("86400", Some(3600)),
        ("Wed, 21 Oct 2020 07:28:00 GMT", Some(0)),
        ("Mon, 21 Oct 2199 07:28:00 GMT", Some(3600)),
        ("later", None),
    ] {
        let error = failure(Reply::new(503, &format!("retry-after: {value}\r\n"), "")).await;
        assert_eq!(error.retry_after(), seconds.map(Duration::from_secs), "{value}");
    }
}

#[tokio::test]
async fn statuses_outside_the_table_are_no_answers() {
    for status in [204, 205, 299, 600, 999] {
        let error = failure(Reply::new(status, "", "")).await;
        assert!(matches!(error, RemoteError::Protocol(_)), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn foreign_text_is_made_fit_for_a_log() {
    let long = "x".repeat(9999);
    let body = format!(r#"{{"error":{{"code":"a\u0007b{long}","message":"\u001b[31m\r\n{long}"}}}}"#);
    let error = failure(Reply::json(400, &body)).await;
    let (code, message) = refused(&error);
    assert!(code.starts_with("abx") && code.len() == 500);
    assert!(message.starts_with("[31mx") && message.len() == 500);
}

#[tokio::test]
async fn an_error_whose_explanation_is_cut_off_keeps_its_meaning() {
    use crate::server::Then;
    let cut = Reply::raw("HTTP/1.1 413 X\r\ncontent-length: 100\r\n\r\n{\"err", Then::Close);
    assert!(matches!(failure(cut).await, RemoteError::TooLarge));
}
