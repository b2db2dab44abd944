//! Signing in, and staying so.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use dynos_sync_core::Remote;
use dynos_sync_remote::{GoTrueSession, Secret, SignInError, SupabaseRemote, TokenError, TokenProvider};
use dynos_sync_testbed::Supabase;
use serde_json::json;

use crate::support::unique;

const PASSWORD: &str = "correct horse battery";

/// A request past the remote.
fn post(supabase: &Supabase, path: &str) -> reqwest::RequestBuilder {
    // Whoever is first installs it for all.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new().post(format!("{}{path}", supabase.url)).header("apikey", &supabase.anon_key)
}

/// An account of one's own.
async fn sign_up(supabase: &Supabase) -> String {
    let email = format!("{}@example.com", unique("ada"));
    let answer = post(supabase, "/auth/v1/signup")
        .json(&json!({"email": email, "password": PASSWORD}))
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    email
}

async fn sign_in(supabase: &Supabase, email: &str) -> (GoTrueSession, Arc<Mutex<Vec<Secret>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeping = Arc::clone(&kept);
    let session = GoTrueSession::builder(&supabase.url, supabase.anon_key.as_str())
        .on_refresh_token(move |token| keeping.lock().unwrap().push(token.clone()))
        .sign_in(email, PASSWORD)
        .await
        .unwrap();
    (session, kept)
}

fn remote(supabase: &Supabase, session: &GoTrueSession) -> SupabaseRemote {
    let builder = SupabaseRemote::builder(&supabase.url, supabase.anon_key.as_str());
    builder.session(session.clone()).build().unwrap()
}

#[tokio::test]
async fn whoever_signs_in_can_sync_now_and_with_the_token_that_was_kept() {
    let supabase = Supabase::shared();
    let email = sign_up(&supabase).await;
    let (session, kept) = sign_in(&supabase, &email).await;
    remote(&supabase, &session).tables().await.unwrap();
    let first = kept.lock().unwrap().last().cloned().unwrap();

    let later = GoTrueSession::from_refresh_token(&supabase.url, supabase.anon_key.as_str(), first).unwrap();
    remote(&supabase, &later).tables().await.unwrap();
    let shown = format!("{session:?} {later:?} {:?}", remote(&supabase, &later));
    assert!(!shown.contains(session.token().await.unwrap().expose()), "{shown}");
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    let supabase = Supabase::shared();
    let email = sign_up(&supabase).await;
    let wrong = "incorrect horse battery";
    let error =
        GoTrueSession::sign_in(&supabase.url, supabase.anon_key.as_str(), &email, wrong).await.unwrap_err();
    assert!(matches!(&error, SignInError::Refused { code, .. } if code == "invalid_credentials"), "{error}");
    assert!(!format!("{error} {error:?}").contains(wrong));
}

#[tokio::test]
async fn a_wrong_key_and_a_service_out_of_reach_are_told_apart() {
    let supabase = Supabase::shared();
    let error =
        GoTrueSession::sign_in(&supabase.url, "wrong", "ada@example.com", PASSWORD).await.unwrap_err();
    assert!(matches!(&error, SignInError::Refused { code, .. } if code == "api_key"), "{error}");
    let error =
        GoTrueSession::sign_in("http://127.0.0.1:1", "key", "ada@example.com", PASSWORD).await.unwrap_err();
    assert!(matches!(error, SignInError::Unavailable(_)), "{error}");
    let error =
        GoTrueSession::sign_in("http://example.com", "key", "ada@example.com", PASSWORD).await.unwrap_err();
    assert!(matches!(error, SignInError::Build(_)), "the password does not travel unencrypted: {error}");
}

/// A session of which only the refresh token was kept, and what it keeps itself.
async fn resumed(supabase: &Supabase) -> (GoTrueSession, Arc<Mutex<Vec<Secret>>>) {
    let email = sign_up(supabase).await;
    let (_, first) = sign_in(supabase, &email).await;
    let first = first.lock().unwrap().last().cloned().unwrap();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeping = Arc::clone(&kept);
    let session = GoTrueSession::builder(&supabase.url, supabase.anon_key.as_str())
        .on_refresh_token(move |token| keeping.lock().unwrap().push(token.clone()))
        .refresh_token(first)
        .unwrap();
    (session, kept)
}

#[tokio::test]
async fn calls_that_need_a_token_together_share_one_refresh() {
    let supabase = Supabase::shared();
    let (session, kept) = resumed(&supabase).await;
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let session = session.clone();
            tokio::spawn(async move { session.token().await.unwrap() })
        })
        .collect();
    let mut tokens = Vec::new();
    for token in asking {
        tokens.push(token.await.unwrap());
    }
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(kept.lock().unwrap().len(), 1, "one refresh for all");
    let other = Secret::new("a token from before");
    assert_eq!(session.refresh(&other).await.unwrap(), tokens.pop(), "a newer one is there already");
    assert_eq!(kept.lock().unwrap().len(), 1);
    remote(&supabase, &session).tables().await.unwrap();
}

#[tokio::test]
async fn a_refresh_outlives_the_call_that_wanted_it() {
    let supabase = Supabase::shared();
    let (session, kept) = resumed(&supabase).await;
    let given_up = tokio::time::timeout(Duration::ZERO, session.token()).await;
    assert!(given_up.is_err());
    session.token().await.unwrap();
    assert_eq!(kept.lock().unwrap().len(), 1, "the refresh that was under way is the one that counts");
}

#[tokio::test]
async fn a_token_that_the_server_no_longer_takes_is_renewed_within_the_call() {
    /// Begins with a token that is no good.
    struct Stale(GoTrueSession, Mutex<Option<Secret>>);

    #[async_trait::async_trait]
    impl TokenProvider for Stale {
        async fn token(&self) -> Result<Secret, TokenError> {
            let stale = self.1.lock().unwrap().take();
            match stale {
                Some(stale) => Ok(stale),
                None => self.0.token().await,
            }
        }

        async fn refresh(&self, stale: &Secret) -> Result<Option<Secret>, TokenError> {
            self.0.refresh(stale).await
        }
    }

    let supabase = Supabase::shared();
    let email = sign_up(&supabase).await;
    let (session, kept) = sign_in(&supabase, &email).await;
    let expired = crate::support::token(
        &supabase,
        "00000000-0000-0000-0000-000000000000",
        "authenticated",
        1_700_000_000,
    );
    let provider = Stale(session, Mutex::new(Some(expired.into())));
    let remote = SupabaseRemote::builder(&supabase.url, supabase.anon_key.as_str())
        .token_provider(Arc::new(provider))
        .build()
        .unwrap();
    remote.tables().await.unwrap();
    assert_eq!(
        kept.lock().unwrap().len(),
        1,
        "the session's own token was good: there was no need for another"
    );
}

#[tokio::test]
async fn a_session_that_has_ended_stays_so_and_asks_nobody_again() {
    let supabase = Supabase::shared();
    let email = sign_up(&supabase).await;
    let (session, kept) = sign_in(&supabase, &email).await;
    let stale = session.token().await.unwrap();
    let other_session = {
        let newest = kept.lock().unwrap().last().cloned().unwrap();
        GoTrueSession::from_refresh_token(&supabase.url, supabase.anon_key.as_str(), newest).unwrap()
    };
    other_session.token().await.unwrap();
    // Signing out ends all sessions of the account.
    let answer =
        post(&supabase, "/auth/v1/logout?scope=global").bearer_auth(stale.expose()).send().await.unwrap();
    assert!(answer.status().is_success());
    for _ in 0..2 {
        let error = session.refresh(&stale).await.unwrap_err();
        assert!(matches!(error, TokenError::SignedOut(_)), "{error}");
        let error = remote(&supabase, &session).tables().await.unwrap_err();
        assert!(error.is_auth(), "{error}");
    }
}

#[tokio::test]
async fn a_refresh_token_that_never_was_is_no_session() {
    let supabase = Supabase::shared();
    let token = unique("canary");
    let session =
        GoTrueSession::from_refresh_token(&supabase.url, supabase.anon_key.as_str(), token.as_str()).unwrap();
    let error = remote(&supabase, &session).tables().await.unwrap_err();
    assert!(error.is_auth() && !error.to_string().contains(&token), "{error}");
}

#[tokio::test]
async fn a_service_out_of_reach_ends_no_session() {
    let session = GoTrueSession::from_refresh_token("http://127.0.0.1:1", "key", "token").unwrap();
    for _ in 0..2 {
        let error = session.token().await.unwrap_err();
        assert!(matches!(error, TokenError::Unavailable(_)), "{error}");
    }
}
