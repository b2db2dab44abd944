//! What an application hands to the engine may panic, hang, or call the engine: nothing else stops for that.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use dynos_sync::{
    Strategy, SyncEngine, SyncError, SyncEvent,
    core::conflict::{Conflict, Resolution, Resolver, StrategyName},
    json,
};
use dynos_sync_remote::{Secret, TokenError, TokenProvider};

use crate::stack::{Device, START, Stack, TABLE, object, told, until, within};

const CANARY: &str = "canary-51c0ffee";

/// A device whose strategy is `resolver`, and another one that has changed what it is about to change.
async fn in_conflict(stack: &Stack, resolver: Arc<dyn Resolver>) -> (Device, Device) {
    let strategy = Strategy::Custom(resolver);
    let one = stack.device_with("one", |setup| setup.config.conflict_strategy = strategy).await;
    let two = stack.device("two").await;
    for id in ["x", "y"] {
        one.write(id, json!({"a": 0})).await;
    }
    stack.settle(&[&one, &two]).await;
    two.clock.set(START + 1000);
    for id in ["x", "y"] {
        two.patch(id, json!({"a": format!("theirs {CANARY}")})).await;
    }
    two.write("z", json!({"a": 1})).await;
    two.sync().await;
    one.clock.set(START + 2000);
    one.patch("x", json!({"a": format!("mine {CANARY}")})).await;
    (one, two)
}

/// Panics with what it was shown.
#[derive(Debug, Default)]
struct Panics(AtomicUsize);

#[async_trait]
impl Resolver for Panics {
    async fn resolve(&self, conflict: &Conflict) -> Resolution {
        self.0.fetch_add(1, Ordering::AcqRel);
        panic!("on purpose, with {conflict:?}")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_resolver_panics_the_default_strategy_decides_and_both_versions_are_kept() {
    let stack = Stack::new().await;
    let resolver = Arc::new(Panics::default());
    let (one, two) = in_conflict(&stack, resolver.clone()).await;
    let mut events = one.engine.events();
    one.sync().await;
    assert_eq!(resolver.0.load(Ordering::Acquire), 1, "it is asked once");
    let events = told(&mut events);
    let failures = events.iter().filter_map(|event| match event {
        SyncEvent::SyncError { error, context } => Some((error.as_str(), *context)),
        _ => None,
    });
    let failures: Vec<_> = failures.collect();
    assert_eq!(failures, [("the resolver panicked over notes/x", "resolver")], "and says nothing of the row");
    let records = stack.settle(&[&one, &two]).await;
    assert_eq!(records["x"], json!({"a": format!("mine {CANARY}")}), "the later edit");
    assert_eq!((&records["y"]["a"], &records["z"]), (&json!(format!("theirs {CANARY}")), &json!({"a": 1})));
    let journal = one.engine.conflicts().await.unwrap();
    assert_eq!(journal.len(), 1);
    let conflict = journal[0].resolved.as_ref().unwrap();
    assert_eq!(conflict.strategy, StrategyName::LastWriteWins);
    assert_eq!(conflict.theirs, Some(object(json!({"a": format!("theirs {CANARY}")}))));
}

/// An account service that panics as often as it is told to.
struct Account {
    panics: AtomicUsize,
    token: Secret,
}

#[async_trait]
impl TokenProvider for Account {
    async fn token(&self) -> Result<Secret, TokenError> {
        let left = self.panics.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        assert!(left.is_err(), "on purpose, with {}", self.token.expose());
        Ok(self.token.clone())
    }

    async fn refresh(&self, _: &Secret) -> Result<Option<Secret>, TokenError> {
        Ok(None)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_panics_is_an_error_and_the_engine_goes_on() {
    let stack = Stack::new().await;
    let token = stack.token("ada");
    let account = Arc::new(Account { panics: 2.into(), token: Secret::new(token.clone()) });
    let provider = Arc::clone(&account);
    let setup = move |setup: &mut crate::stack::Setup| {
        setup.remote = Box::new(move |remote| remote.token_provider(provider));
    };
    let one = stack.device_with("one", setup).await;
    one.write("x", json!({"a": 1})).await;
    let failed = within(one.engine.sync_all()).await.unwrap_err();
    assert!(matches!(failed, SyncError::Panicked) && !failed.is_transient(), "{failed:?}");
    assert!(!format!("{failed} {failed:?}").contains(&token));
    assert!(!one.engine.is_draining());
    one.write("y", json!({"a": 1})).await;
    assert!(within(one.engine.drain()).await.is_err());
    assert_eq!((one.state().await.pending, one.state().await.dead_letters), (2, 0));
    one.sync().await;
    assert_eq!(stack.records("ada", TABLE).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_syncs_by_itself_goes_on_after_panics_in_syncs_hints_and_hooks() {
    let stack = Stack::new().await;
    let token = Secret::new(stack.token("ada"));
    let account = Arc::new(Account { panics: 6.into(), token });
    let provider = Arc::clone(&account);
    let hooked = Arc::new(AtomicUsize::new(0));
    let hook = Arc::clone(&hooked);
    let setup = move |setup: &mut crate::stack::Setup| {
        setup.config.auto_sync = true;
        setup.config.is_transient = Some(Arc::new(move |_| {
            hook.fetch_add(1, Ordering::AcqRel);
            panic!("on purpose")
        }));
        setup.remote = Box::new(move |remote| remote.token_provider(provider));
    };
    let one = stack.device_with("one", setup).await;
    let mut events = one.engine.events();
    one.write("x", json!({"a": 1})).await;
    let passes = async || {
        one.clock.advance(std::time::Duration::from_secs(60));
        one.state().await.pending == 0 && !stack.proxy.seen_at("/v1/events").is_empty()
    };
    until(passes).await;
    assert_eq!(account.panics.load(Ordering::Acquire), 0);
    // A failure that the hook is asked about.
    stack.proxy.offline();
    one.write("y", json!({"a": 1})).await;
    until(async || hooked.load(Ordering::Acquire) > 0).await;
    stack.proxy.heal();
    let passes = async || {
        one.clock.advance(std::time::Duration::from_secs(60));
        one.state().await.pending == 0
    };
    until(passes).await;
    assert_eq!(stack.records("ada", TABLE).await.len(), 2);
    let panics = told(&mut events).into_iter().filter_map(|event| match event {
        SyncEvent::SyncError { error, context } if error.contains("panic") => Some(context),
        _ => None,
    });
    let panics: std::collections::BTreeSet<_> = panics.collect();
    assert_eq!(panics, ["engine", "sync"].into(), "each is told of");
    within(one.engine.close()).await;
}

/// Uses the engine that it decides for.
#[derive(Default)]
struct Uses(OnceLock<SyncEngine>, Mutex<Vec<String>>);

impl std::fmt::Debug for Uses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Uses")
    }
}

#[async_trait]
impl Resolver for Uses {
    async fn resolve(&self, conflict: &Conflict) -> Resolution {
        let engine = self.0.get().unwrap();
        let id = conflict.key.id.as_str();
        self.1.lock().unwrap().push(id.to_owned());
        let here = engine.get(TABLE, id).await.unwrap();
        assert_eq!(here, conflict.local);
        // Of other records, and the first time of this one too: then it is asked again.
        engine.write(TABLE, "note", object(json!({"about": id}))).await.unwrap();
        if self.1.lock().unwrap().len() == 1 {
            engine.patch(TABLE, id, object(json!({"b": 1}))).await.unwrap();
        }
        engine.remove(TABLE, "none").await.unwrap();
        assert!(engine.status().await.unwrap().syncing && engine.is_draining());
        assert!(
            engine.conflicts().await.unwrap().is_empty() && engine.dead_letters().await.unwrap().is_empty()
        );
        assert!(engine.add_table("others", true).await.unwrap() || self.1.lock().unwrap().len() > 1);
        engine.tables().await.unwrap();
        drop(engine.events());
        Resolution::KeepLocal
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_may_use_the_engine() {
    let stack = Stack::new().await;
    let resolver = Arc::new(Uses::default());
    let (one, two) = in_conflict(&stack, resolver.clone()).await;
    resolver.0.set(one.engine.clone()).ok().unwrap();
    one.sync().await;
    assert_eq!(*resolver.1.lock().unwrap(), ["x", "x"]);
    let records = stack.settle(&[&one, &two]).await;
    assert_eq!(records["x"], json!({"a": format!("mine {CANARY}"), "b": 1}));
    assert_eq!(records["note"], json!({"about": "x"}));
}

/// Waits for the sync that waits for it.
#[derive(Default)]
struct Waits(OnceLock<SyncEngine>, tokio::sync::Notify);

impl std::fmt::Debug for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waits")
    }
}

#[async_trait]
impl Resolver for Waits {
    async fn resolve(&self, _: &Conflict) -> Resolution {
        self.1.notify_one();
        let done = self.0.get().unwrap().sync_all().await;
        panic!("BUG: a sync ended before the one that it is a part of: {done:?}")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_never_answers_holds_up_no_edit_no_logout_and_no_end() {
    for logs_out in [true, false] {
        let stack = Stack::new().await;
        let resolver = Arc::new(Waits::default());
        let (one, _two) = in_conflict(&stack, resolver.clone()).await;
        resolver.0.set(one.engine.clone()).ok().unwrap();
        let engine = one.engine.clone();
        let syncing = tokio::spawn(async move { engine.sync_all().await });
        within(resolver.1.notified()).await;
        within(one.write("more", json!({"a": 1}))).await;
        assert!(within(one.get("more")).await.is_some());
        if logs_out {
            assert!(within(one.engine.logout(true)).await.unwrap() > 0);
        } else {
            within(one.engine.close()).await;
        }
        let ended = within(syncing).await.unwrap().unwrap_err();
        assert!(matches!(ended, SyncError::SessionEnded), "{ended:?}");
    }
}
