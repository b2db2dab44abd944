//! The token: where it comes from, how often it is refreshed, where it may go.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use dynos_sync_core::{Remote, RemoteError};
use dynos_sync_remote::{BuildError, HttpRemote, Secret, TokenError, TokenProvider};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use crate::server::{Reply, Seen, Server};

/// Answers every refresh with `outcome`, after a while.
struct Provider {
    current: Mutex<Secret>,
    outcome: Result<Option<Secret>, TokenError>,
    /// Refreshes wait here.
    gate: Semaphore,
    refreshes: AtomicUsize,
}

impl Provider {
    fn new(outcome: Result<Option<&str>, TokenError>) -> Arc<Self> {
        Arc::new(Self {
            current: Mutex::new("stale-token".into()),
            outcome: outcome.map(|token| token.map(Secret::from)),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            refreshes: AtomicUsize::new(0),
        })
    }

    /// Its refreshes hang until permits are added.
    fn closed() -> Arc<Self> {
        let mut provider = Self::new(Ok(Some("fresh-token")));
        Arc::get_mut(&mut provider).unwrap().gate = Semaphore::new(0);
        provider
    }

    fn refreshes(&self) -> usize {
        self.refreshes.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl TokenProvider for Provider {
    async fn token(&self) -> Result<Secret, TokenError> {
        Ok(self.current.lock().unwrap().clone())
    }

    async fn refresh(&self, stale: &Secret) -> Result<Option<Secret>, TokenError> {
        assert_eq!(stale.expose(), "stale-token");
        self.refreshes.fetch_add(1, Ordering::SeqCst);
        let _passed = self.gate.acquire().await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        if let Ok(Some(fresh)) = &self.outcome {
            *self.current.lock().unwrap() = fresh.clone();
        }
        self.outcome.clone()
    }
}

fn remote(server: &Server, provider: &Arc<Provider>) -> HttpRemote {
    HttpRemote::builder(server.url()).token_provider(Arc::clone(provider) as _).build().unwrap()
}

fn wants_fresh(seen: &Seen) -> Reply {
    if seen.header("authorization") == "Bearer fresh-token" {
        Reply::tables()
    } else {
        Reply::error(401, "unauthorized")
    }
}

#[tokio::test]
async fn concurrent_calls_share_one_refresh() {
    // Some of the refusals arrive only after the refresh is done.
    let arrived = AtomicUsize::new(0);
    let server = Server::start(move |seen| {
        let late = arrived.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        let delay = if late { 150 } else { 0 };
        wants_fresh(seen).after(Duration::from_millis(delay))
    })
    .await;
    let provider = Provider::new(Ok(Some("fresh-token")));
    let remote = remote(&server, &provider);
    let answers = join_all((0..10).map(|_| remote.tables())).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(provider.refreshes(), 1);
    assert_eq!(server.seen().len(), 20);
    remote.tables().await.unwrap();
    assert_eq!((provider.refreshes(), server.seen().len()), (1, 21));
}

#[tokio::test]
async fn a_refresh_that_fails_is_shared_too_and_nothing_is_repeated() {
    let outcomes = [
        Ok(None),
        Ok(Some("stale-token")),
        Err(TokenError::SignedOut("the refresh token has expired".into())),
    ];
    for outcome in outcomes {
        let server = Server::start(wants_fresh).await;
        let provider = Provider::new(outcome);
        let remote = remote(&server, &provider);
        let answers = join_all((0..10).map(|_| remote.tables())).await;
        assert!(answers.iter().all(|a| a.as_ref().is_err_and(RemoteError::is_auth)), "{answers:?}");
        assert_eq!((provider.refreshes(), server.seen().len()), (1, 10));
        // A later call may try again.
        assert!(remote.tables().await.unwrap_err().is_auth());
        assert_eq!(provider.refreshes(), 2);
    }
}

#[tokio::test]
async fn a_fresh_token_that_is_refused_is_not_refreshed_again() {
    let server = Server::always(Reply::error(401, "unauthorized")).await;
    let provider = Provider::new(Ok(Some("fresh-token")));
    assert!(remote(&server, &provider).tables().await.unwrap_err().is_auth());
    assert_eq!((provider.refreshes(), server.seen().len()), (1, 2));
}

#[tokio::test]
async fn an_account_service_that_is_away_is_transient() {
    let server = Server::start(wants_fresh).await;
    let provider = Provider::new(Err(TokenError::Unavailable("offline, with stale-token in hand".into())));
    let error = remote(&server, &provider).tables().await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("offline, with [secret]"), "{error}");
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_no_refresh_down() {
    let server = Server::start(wants_fresh).await;
    let provider = Provider::closed();
    let remote = remote(&server, &provider);
    let call = |remote: HttpRemote| tokio::spawn(async move { remote.tables().await });
    let leaves = call(remote.clone());
    while provider.refreshes() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    let stays = call(remote);
    provider.gate.add_permits(1);
    stays.await.unwrap().unwrap();
    assert_eq!(provider.refreshes(), 1);
}

#[tokio::test]
async fn a_provider_that_hangs_ends_with_the_call() {
    let server = Server::start(wants_fresh).await;
    let provider = Provider::closed();
    let builder = HttpRemote::builder(server.url()).token_provider(Arc::clone(&provider) as _);
    let remote = builder.timeout(Duration::from_millis(120)).build().unwrap();
    for _ in 0..2 {
        let error = remote.tables().await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }
}

#[tokio::test]
async fn a_token_that_no_header_can_carry_is_not_sent() {
    let server = Server::always(Reply::tables()).await;
    let remote = HttpRemote::builder(server.url()).token("canary\r\nx-evil: 1").build().unwrap();
    let error = remote.tables().await.unwrap_err();
    assert!(error.is_auth() && !error.to_string().contains("canary"), "{error}");
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn plain_http_to_another_machine_needs_a_word() {
    let builder = || HttpRemote::builder("http://192.0.2.1").token("t");
    let refused = builder().build().unwrap_err();
    assert_eq!(refused, BuildError::PlainHttp { host: "192.0.2.1".into() });
    assert!(refused.to_string().contains("allow_plain_http(true)") && refused.to_string().contains("https"));
    assert!(builder().allow_plain_http(true).build().is_ok());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let builder = || HttpRemote::builder("http://localhost").token("t");
    assert!(builder().build().is_ok());
    assert_eq!(HttpRemote::builder("http://localhost").build().unwrap_err(), BuildError::NoToken);
    for wrong in [
        builder().timeout(Duration::ZERO),
        builder().connect_timeout(Duration::ZERO),
        builder().idle_timeout(Duration::ZERO),
        builder().hints_idle_timeout(Duration::ZERO),
        builder().max_response_bytes(0),
        builder().user_agent("a\nb"),
    ] {
        assert!(matches!(wrong.build().unwrap_err(), BuildError::Setting { .. }));
    }
}
