//! Redirects: the token stays with its origin.

use dynos_sync_core::{Remote, RemoteError};
use dynos_sync_remote::HttpRemote;

use crate::server::{Reply, Server, pull};

fn redirect(status: u16, to: &str) -> Reply {
    Reply::new(status, &format!("location: {to}\r\n"), "")
}

fn is_refused(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Refused { code, .. } if code == "redirect")
}

#[tokio::test]
async fn another_origin_never_hears_of_it() {
    let other = Server::always(Reply::tables()).await;
    for status in [301, 302, 303, 307, 308] {
        for to in [
            other.url(),
            format!("http://localhost:{}/x", other.port()),
            format!("//127.0.0.1:{}", other.port()),
        ] {
            let server = Server::start(move |_| redirect(status, &to)).await;
            let error = server.remote().tables().await.unwrap_err();
            assert!(is_refused(&error), "{error:?}");
            let error = server.remote().pull(pull(1)).await.unwrap_err();
            assert!(is_refused(&error), "{error:?}");
        }
    }
    assert_eq!(other.seen().len(), 0, "not even without a token");
}

#[tokio::test]
async fn the_same_origin_gets_the_same_request() {
    for status in [307, 308] {
        let server = Server::start(move |seen| match seen.path.as_str() {
            "/v1/pull" => redirect(status, "/moved?to=1"),
            _ => Reply::json(200, r#"{"changes":[],"next":"c","has_more":false}"#),
        })
        .await;
        server.remote().pull(pull(1)).await.unwrap();
        let seen = server.seen();
        assert_eq!((seen[1].method.as_str(), seen[1].path.as_str()), ("POST", "/moved?to=1"));
        assert_eq!(seen[0].body, seen[1].body);
        assert_eq!(seen[1].header("authorization"), "Bearer t0ken");
    }
}

#[tokio::test]
async fn redirects_that_change_the_method_lose_the_way_or_the_user_are_refused() {
    for (status, to) in
        [(301, "/x"), (302, "/x"), (303, "/x"), (304, "/x"), (300, "/x"), (307, ""), (308, "http://[")]
    {
        let server =
            Server::start(
                move |_| if to.is_empty() { Reply::new(status, "", "") } else { redirect(status, to) },
            );
        let server = server.await;
        let error = server.remote().tables().await.unwrap_err();
        assert!(is_refused(&error), "{status} {to:?}: {error:?}");
        assert_eq!(server.seen().len(), 1);
    }
    let server =
        Server::start(|seen| redirect(307, &format!("http://user:pw@{}/", seen.header("host")))).await;
    assert!(is_refused(&server.remote().tables().await.unwrap_err()));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_circle_ends() {
    let server = Server::always(redirect(307, "/v1/tables")).await;
    assert!(is_refused(&server.remote().tables().await.unwrap_err()));
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_base_path_is_kept() {
    let server = Server::always(Reply::tables()).await;
    let remote = HttpRemote::builder(format!("{}/sync/", server.url())).token("t").build().unwrap();
    remote.tables().await.unwrap();
    assert_eq!(server.seen()[0].path, "/sync/v1/tables");
}
