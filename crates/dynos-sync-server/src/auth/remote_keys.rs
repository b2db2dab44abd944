//! Keys that are published at an address.
//!
//! They are fetched when a token needs them: when there are none yet, when they have grown old, and when a token
//! names one that is not among them. Keys that have grown old stay in use while fresh ones cannot be had.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dynos_sync_core::Millis;
use tokio::sync::Mutex as AsyncMutex;

use super::{
    Denied,
    keys::{Key, KeyError, Keys},
};
use crate::config::Now;

/// The shortest pause between two fetches: tokens with made-up keys must not become load for the issuer.
const PAUSE: Millis = 10_000;

/// How long a fetch may take.
const FETCH_TIME: Duration = Duration::from_secs(10);

/// The largest key set, in bytes.
const SET_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct RemoteKeys {
    client: reqwest::Client,
    url: reqwest::Url,
    refresh: Millis,
    now: Now,
    known: Mutex<Known>,
    /// Held by the one task that fetches.
    fetching: AsyncMutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    keys: Option<Arc<Keys>>,
    fetched: Millis,
    tried: Option<Millis>,
}

impl RemoteKeys {
    pub(super) fn new(url: &str, refresh: Duration, now: Now) -> Result<Self, KeyError> {
        let url =
            reqwest::Url::parse(url).ok().filter(trusted).ok_or_else(|| KeyError::Address(url.to_owned()))?;
        // Another part of the program may have chosen a provider already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let refresh = i64::try_from(refresh.as_millis()).unwrap_or(i64::MAX);
        Ok(Self { client, url, refresh, now, known: Mutex::default(), fetching: AsyncMutex::default() })
    }

    /// The key that a token names.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<Option<Arc<Key>>, Denied> {
        let known = self.known();
        let old = self.now.millis().saturating_sub(known.fetched) >= self.refresh;
        let found = known.keys.as_ref().and_then(|keys| keys.find(id));
        if found.is_some() && !old {
            return Ok(found);
        }
        self.fetch(known.tried).await;
        self.known().keys.map(|keys| keys.find(id)).ok_or(Denied::NoKeys)
    }

    /// Fetches the keys, unless somebody did since `tried`, or only just before.
    async fn fetch(&self, tried: Option<Millis>) {
        let _one = self.fetching.lock().await;
        let now = self.now.millis();
        let last = self.known().tried;
        if last != tried || last.is_some_and(|last| (last..last.saturating_add(PAUSE)).contains(&now)) {
            return;
        }
        let fetched = self.download().await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.tried = Some(now);
        match fetched {
            Ok(keys) => {
                known.keys = Some(Arc::new(keys));
                known.fetched = now;
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "no fresh keys"),
        }
    }

    async fn download(&self) -> Result<Keys, KeyError> {
        let mut response = self.client.get(self.url.clone()).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > SET_BYTES {
                return Err(std::io::Error::other("the key set is too large").into());
            }
        }
        Keys::parse(&body)
    }

    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Over the open network only TLS says whose keys they are.
fn trusted(url: &reqwest::Url) -> bool {
    let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    url.scheme() == "https" || (url.scheme() == "http" && here)
}
