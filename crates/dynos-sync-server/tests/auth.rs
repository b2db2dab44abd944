//! Whose tokens are accepted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dynos_sync_core::{Value, json};
use dynos_sync_server::{
    OpenError, Server,
    auth::KeyError,
    config::{Auth, Secret},
    mint,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use support::*;

// Keys that were made for these tests, and open nothing.
const RSA: &[u8] = include_bytes!("keys/rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("keys/rsa.pub.pem");
const EC: &[u8] = include_bytes!("keys/ec.pem");
const ED: &[u8] = include_bytes!("keys/ed.pem");

fn signed(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

/// A token put together by hand, with any header and no signature worth the name.
fn forged(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

fn keys() -> [(EncodingKey, Algorithm, &'static str); 3] {
    [
        (EncodingKey::from_rsa_pem(RSA).unwrap(), Algorithm::RS256, "rsa"),
        (EncodingKey::from_ec_pem(EC).unwrap(), Algorithm::ES256, "ec"),
        (EncodingKey::from_ed_pem(ED).unwrap(), Algorithm::EdDSA, "ed"),
    ]
}

fn key_set(ids: &[&str]) -> String {
    let jwk = |(key, algorithm, id): (EncodingKey, Algorithm, &str)| {
        let mut jwk = Jwk::from_encoding_key(&key, algorithm).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        serde_json::to_value(jwk).unwrap()
    };
    let mut set: Vec<_> = keys().into_iter().filter(|key| ids.contains(&key.2)).map(jwk).collect();
    // Not of use here, and no obstacle.
    set.push(json!({"kty": "oct", "kid": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)}));
    set.push(json!({"kty": "something new", "kid": "new"}));
    json!({ "keys": set }).to_string()
}

async fn status(server: &Running, token: &str) -> u16 {
    let response = Device { token: token.to_owned(), ..server.device("x", 1) }.get("/v1/tables").await;
    let status = response.status().as_u16();
    if status != 200 {
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
        let (_, detail) = error(response).await;
        assert!(
            matches!((status, detail.code.as_str()), (401, "unauthorized") | (503, "unavailable")),
            "{detail:?}"
        );
        // Nothing of the token comes back.
        assert!(token.len() < 9 || !detail.message.contains(&token[..9]));
    }
    status
}

#[tokio::test]
async fn tokens_signed_with_the_secret() {
    let home = Home::new();
    let mut config = home.config();
    config.audience = Some("sync".to_owned());
    let server = home.start_with(config).await;
    let now = home.clock.now() / 1000;
    let good = json!({"sub": "alice", "exp": now + 60, "aud": "sync"});
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let hs256 = |claims: &Value| signed(Algorithm::HS256, None, &secret, claims);
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let tampered = {
        let token = hs256(&good);
        let signature = token.rsplit('.').next().unwrap();
        forged(&header, &with("sub", json!("bob")), signature)
    };
    let critical = {
        let header = Header { crit: Some(vec!["exp".to_owned()]), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &good, &secret).unwrap()
    };
    for (name, token, expected) in [
        ("good", hs256(&good), 200),
        ("any key id", signed(Algorithm::HS256, Some("k1"), &secret, &good), 200),
        ("several audiences", hs256(&with("aud", json!(["other", "sync"]))), 200),
        ("expired within the leeway", hs256(&with("exp", json!(now - 4))), 200),
        ("expired", hs256(&with("exp", json!(now - 5))), 401),
        ("no expiry", hs256(&without("exp")), 401),
        ("a textual expiry", hs256(&with("exp", json!("tomorrow"))), 401),
        ("not yet valid", hs256(&with("nbf", json!(now + 10))), 401),
        ("valid just now", hs256(&with("nbf", json!(now))), 200),
        ("another audience", hs256(&with("aud", json!("other"))), 401),
        ("no audience", hs256(&without("aud")), 401),
        ("no subject", hs256(&without("sub")), 401),
        ("an empty subject", hs256(&with("sub", json!(""))), 401),
        ("a long subject", hs256(&with("sub", json!("x".repeat(257)))), 401),
        ("a number for a subject", hs256(&with("sub", json!(1))), 401),
        ("another secret", signed(Algorithm::HS256, None, &EncodingKey::from_secret(&[7; 40]), &good), 401),
        ("another HMAC", signed(Algorithm::HS512, None, &secret, &good), 401),
        (
            "another algorithm",
            signed(Algorithm::RS256, None, &EncodingKey::from_rsa_pem(RSA).unwrap(), &good),
            401,
        ),
        ("no signature", forged(&json!({"alg": "none"}), &good, ""), 401),
        ("no signature, in capitals", forged(&json!({"alg": "NONE"}), &good, ""), 401),
        ("an empty signature", forged(&header, &good, ""), 401),
        ("tampered", tampered, 401),
        ("a critical header", critical, 401),
        ("garbage", "garbage".to_owned(), 401),
        ("dots", "..".to_owned(), 401),
        ("too long", "x".repeat(20_000), 401),
    ] {
        assert_eq!(status(&server, &token).await, expected, "{name}");
    }
    let bare = client();
    for authorization in [None, Some(""), Some("Bearer"), Some("Basic YTpi")] {
        let mut request = bare.get(server.url("/v1/tables"));
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        assert_eq!(error(within(request.send()).await.unwrap()).await.0, 401);
    }
    server.stop().await;
}

#[tokio::test]
async fn every_path_of_the_protocol_wants_a_token() {
    let home = Home::new();
    let server = home.start().await;
    let nobody = Device { token: "none".to_owned(), ..server.device("x", 1) };
    for path in ["/v1/tables", "/v1/heads", "/v1/push", "/v1/pull"] {
        assert_eq!(error(nobody.post(path, &json!({})).await).await.0, 401, "{path}");
    }
    for path in ["/v1/tables", "/v1/events"] {
        assert_eq!(error(nobody.get(path).await).await.0, 401, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn tokens_signed_with_a_key_of_a_set() {
    let home = Home::new();
    let file = home.path().join("keys.json");
    std::fs::write(&file, key_set(&["rsa", "ec", "ed"])).unwrap();
    let mut config = home.config();
    config.auth = Auth::JwksFile(file);
    let server = home.start_with(config).await;
    let claims = json!({"sub": "alice", "exp": home.clock.now() / 1000 + 60});
    for (key, algorithm, id) in keys() {
        assert_eq!(status(&server, &signed(algorithm, Some(id), &key, &claims)).await, 200, "{id}");
        assert_eq!(
            status(&server, &signed(algorithm, None, &key, &claims)).await,
            401,
            "which of three keys?"
        );
        let other = if id == "rsa" { "ec" } else { "rsa" };
        assert_eq!(
            status(&server, &signed(algorithm, Some(other), &key, &claims)).await,
            401,
            "{id} as {other}"
        );
    }
    // The algorithm is the key's, not the header's.
    let rsa = &keys()[0].0;
    assert_eq!(status(&server, &signed(Algorithm::RS512, Some("rsa"), rsa, &claims)).await, 401);
    // A public key is no secret, and neither is a secret that was published.
    let der: Value = serde_json::from_str(&key_set(&["rsa"])).unwrap();
    let modulus = URL_SAFE_NO_PAD.decode(der["keys"][0]["n"].as_str().unwrap()).unwrap();
    for bytes in [RSA_PUBLIC, RSA_PUBLIC.trim_ascii(), &modulus, b"", SECRET.as_bytes()] {
        for id in ["rsa", "oct", "new"] {
            let token = signed(Algorithm::HS256, Some(id), &EncodingKey::from_secret(bytes), &claims);
            assert_eq!(status(&server, &token).await, 401);
        }
    }
    server.stop().await;
}

/// An issuer whose key set changes, fails, and counts how often it is asked.
struct Issuer {
    url: String,
    asked: Arc<AtomicUsize>,
    rotated: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
}

async fn issuer() -> Issuer {
    let (asked, rotated, broken) = <(Arc<AtomicUsize>, Arc<AtomicBool>, Arc<AtomicBool>)>::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let (count, new, fails) = (asked.clone(), rotated.clone(), broken.clone());
    let answer = move || async move {
        count.fetch_add(1, Ordering::SeqCst);
        match (fails.load(Ordering::SeqCst), new.load(Ordering::SeqCst)) {
            (true, _) => Err(axum::http::StatusCode::BAD_GATEWAY),
            (false, false) => Ok(key_set(&["ec"])),
            (false, true) => Ok(key_set(&["ed"])),
        }
    };
    let router = axum::Router::new().route("/keys", axum::routing::get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Issuer { url, asked, rotated, broken }
}

#[tokio::test]
async fn published_keys_are_fetched_when_they_are_needed() {
    let home = Home::new();
    let issuer = issuer().await;
    let mut config = home.config();
    config.auth = Auth::JwksUrl { url: issuer.url.clone(), refresh: Duration::from_secs(600) };
    let server = home.start_with(config).await;
    let token = |index: usize| {
        let (key, algorithm, id) = &keys()[index];
        let claims = json!({"sub": "alice", "exp": home.clock.now() / 1000 + 60});
        signed(*algorithm, Some(id), key, &claims)
    };
    let asked = || issuer.asked.load(Ordering::SeqCst);
    // While no key can be had nobody is signed out, and the issuer is left in peace.
    issuer.broken.store(true, Ordering::SeqCst);
    assert_eq!((status(&server, &token(1)).await, asked()), (503, 1));
    assert_eq!((status(&server, &token(1)).await, asked()), (503, 1));
    issuer.broken.store(false, Ordering::SeqCst);
    home.clock.advance(Duration::from_secs(10));
    assert_eq!((status(&server, &token(1)).await, asked()), (200, 2));
    assert_eq!((status(&server, &token(1)).await, asked()), (200, 2));
    // An unknown key asks for the set again, but not at once.
    assert_eq!((status(&server, &token(2)).await, asked()), (401, 2));
    issuer.rotated.store(true, Ordering::SeqCst);
    home.clock.advance(Duration::from_secs(10));
    assert_eq!((status(&server, &token(2)).await, asked()), (200, 3));
    assert_eq!((status(&server, &token(1)).await, asked()), (401, 3));
    // Old keys are fetched anew, and stay in use where that fails.
    issuer.broken.store(true, Ordering::SeqCst);
    home.clock.advance(Duration::from_secs(600));
    assert_eq!((status(&server, &token(2)).await, asked()), (200, 4));
    server.stop().await;
}

#[test]
fn what_cannot_be_trusted_is_refused_at_the_start() {
    let home = Home::new();
    let open = |auth: Auth| {
        let mut config = home.config();
        config.auth = auth;
        match Server::open(config) {
            Err(OpenError::Keys(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let file = |content: &str| {
        std::fs::write(home.path().join("keys.json"), content).unwrap();
        Auth::JwksFile(home.path().join("keys.json"))
    };
    let url = |url: &str| Auth::JwksUrl { url: url.to_owned(), refresh: Duration::from_secs(1) };
    let short = Secret::new("too short");
    assert!(matches!(mint(&short, "alice", Duration::ZERO, 0), Err(KeyError::ShortSecret { bytes: 9 })));
    assert!(matches!(open(Auth::Secret(short)), KeyError::ShortSecret { bytes: 9 }));
    assert!(matches!(open(Auth::JwksFile(home.path().join("none"))), KeyError::Unreadable(_)));
    assert!(matches!(open(file("{}")), KeyError::Malformed(_)));
    assert!(matches!(open(file(r#"{"keys": []}"#)), KeyError::Empty));
    assert!(matches!(open(file(&key_set(&[]))), KeyError::Empty));
    for address in
        ["http://example.com/keys", "ftp://localhost/", "keys.json", "http://localhost.example.com/"]
    {
        assert!(matches!(open(url(address)), KeyError::Address(_)), "{address}");
    }
    assert!(!format!("{:?}", Secret::new(SECRET)).contains(SECRET));
}
