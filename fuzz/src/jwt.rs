//! Whether the server takes a token.
//!
//! The first byte of an input says what the rest is: `r`, the header as it is; `s`, a token's header and its claims, one a
//! line, which are signed with the secret; anything else, changes of a valid token: a place and a byte each.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dynos_sync_core::Value;
use sha2::{Digest as _, Sha256};

use crate::stage::{NOW, SECRET, Stage};

/// The body of the target.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    Stage::with(|stage| {
        let header = match kind {
            b'r' => rest.to_vec(),
            b's' => signed(rest),
            _ => changed(stage.newcomer().into_bytes(), rest),
        };
        let Some(answer) = stage.call(&header, "/v1/tables", None) else { return };
        match answer.status {
            200 => assert!(is_good(&header), "{:?} was accepted", String::from_utf8_lossy(&header)),
            401 => assert!(!is_plainly_good(&header), "{:?} was refused", String::from_utf8_lossy(&header)),
            other => panic!("{other} for {:?}", String::from_utf8_lossy(&header)),
        }
    });
}

fn signed(rest: &[u8]) -> Vec<u8> {
    let line = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (header, claims) = (&rest[..line], rest.get(line + 1..).unwrap_or_default());
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(hmac(text.as_bytes()));
    format!("Bearer {text}.{signature}").into_bytes()
}

fn changed(mut header: Vec<u8>, changes: &[u8]) -> Vec<u8> {
    for change in changes.chunks_exact(2) {
        let place = usize::from(change[0]) % header.len();
        match change[1] {
            0 => drop(header.remove(place)),
            byte @ 1..=0x1f => header.insert(place, b' ' + byte),
            byte => header[place] = byte,
        }
        if header.is_empty() {
            break;
        }
    }
    header
}

/// HMAC-SHA256 (RFC 2104) under the server's secret, by hand: what the server's own library says is in question here.
fn hmac(text: &[u8]) -> [u8; 32] {
    let mut key = [0; 64];
    key[..SECRET.len()].copy_from_slice(SECRET.as_bytes());
    let hash = |pad: u8, rest: &[u8]| {
        let mut hash = Sha256::new();
        hash.update(key.map(|byte| byte ^ pad));
        hash.update(rest);
        hash.finalize()
    };
    hash(0x5c, &hash(0x36, text)).into()
}

/// The header and the claims of a token whose signature is ours.
fn open(header: &[u8]) -> Option<(Value, Value)> {
    let header = std::str::from_utf8(header).ok()?;
    let token = header.get("bearer ".len()..)?.trim();
    header.get(.."bearer ".len())?.eq_ignore_ascii_case("bearer ").then_some(())?;
    let (text, signature) = token.rsplit_once('.')?;
    (URL_SAFE_NO_PAD.decode(signature).ok()? == hmac(text.as_bytes())).then_some(())?;
    let (head, claims) = text.split_once('.')?;
    let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    // What is signed may hold what is no text, where nobody looks: it cannot be judged beyond its signature.
    Some((json(head).unwrap_or_default(), json(claims).unwrap_or_default()))
}

/// What every token that is accepted must be.
fn is_good(header: &[u8]) -> bool {
    let Some((head, claims)) = open(header) else { return false };
    if head.is_null() || claims.is_null() {
        return true;
    }
    let subject = claims["sub"].as_str().is_some_and(|sub| !sub.is_empty() && sub.len() <= 256);
    // The leeway is five seconds.
    let seconds = NOW as f64 / 1000.0;
    let lives = claims["exp"].as_f64().is_some_and(|exp| exp > seconds - 5.0 - 0.001);
    let begun = claims["nbf"].as_f64().is_none_or(|nbf| nbf <= seconds + 5.0 + 0.001);
    head["alg"] == "HS256" && head["crit"].is_null() && subject && lives && begun
}

/// A token that has nothing but what it needs: it must not be refused.
fn is_plainly_good(header: &[u8]) -> bool {
    let Some((head, claims)) = open(header).filter(|_| header.is_ascii() && is_good(header)) else {
        return false;
    };
    // Written as it would be here: without a name twice, which JSON has several opinions about.
    let text = [&head, &claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let is_written_so = String::from_utf8_lossy(header).contains(&text);
    let lasting = claims["exp"].as_f64().is_some_and(|exp| exp > NOW as f64 / 1000.0);
    let only = |value: &Value, names: &[&str]| {
        value.as_object().is_some_and(|object| object.keys().all(|name| names.contains(&name.as_str())))
    };
    header.len() < 8192 && is_written_so && lasting && only(&head, &["alg"]) && only(&claims, &["exp", "sub"])
}
