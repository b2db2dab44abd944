//! Without a network, or with a server that asks for patience, nothing is lost and nothing is counted.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use dynos_sync::{ConnectionState, SyncError, SyncEvent, core::Replica, json};
use dynos_sync_remote::{HttpRemote, Secret, TokenError, TokenProvider};

use crate::{
    proxy::{Fate, error_reply},
    stack::{Device, Setup, Stack, TABLE, told, until, within},
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn worker(setup: &mut Setup) {
    setup.config.auto_sync = true;
    setup.config.pull_interval = HOUR;
    setup.config.poll_interval = HOUR;
    setup.config.max_backoff = HOUR;
}

async fn untouched_queue(device: &Device, entries: u64) {
    let state = device.state().await;
    assert_eq!((state.pending, state.dead_letters), (entries, 0));
    let queue = device.replica.queue(0, 1000).await.unwrap();
    assert!(queue.iter().all(|entry| entry.attempts == 0 && entry.retry_at.is_none()), "{queue:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn weeks_without_a_network_lose_nothing_and_then_all_arrives_once() {
    let stack = Stack::new().await;
    stack.proxy.offline();
    let device = stack.device_with("device", worker).await;
    let mut events = device.engine.events();
    for day in 0..30 {
        device.write(&format!("day{day}"), json!({"a": day})).await;
        device.patch("day0", json!({"b": day})).await;
        if day % 10 == 9 {
            device.remove(&format!("day{}", day - 1)).await;
        }
        device.clock.pass(DAY).await;
    }
    let requests = stack.proxy.seen().len();
    assert!((100..5000).contains(&requests), "{requests} requests in 30 days");
    // What may have been sent is frozen; the rest of the first record's patches wait behind it.
    untouched_queue(&device, device.state().await.pending).await;
    let events = told(&mut events);
    assert_eq!(events.iter().filter(|event| matches!(event, SyncEvent::Offline { .. })).count(), 1);
    stack.proxy.heal();
    device.clock.pass(HOUR).await;
    until(async || device.state().await.pending == 0).await;
    let other = stack.device("other").await;
    let records = stack.settle(&[&other, &device]).await;
    assert_eq!(records.len(), 27);
    assert_eq!(records["day0"], json!({"a": 0, "b": 29}));
    assert_eq!(device.engine.status().await.unwrap().connection, ConnectionState::Online);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_connections_lose_nothing_either() {
    let stack = Stack::new().await;
    let nowhere = |setup: &mut Setup| {
        worker(setup);
        // Nobody listens there.
        setup.remote = Box::new(|_| HttpRemote::builder("http://127.0.0.1:1").token("a token for nobody"));
    };
    let device = stack.device_with("device", nowhere).await;
    for n in 0..10 {
        device.write(&format!("r{n}"), json!({"a": n})).await;
        device.clock.pass(DAY).await;
    }
    untouched_queue(&device, 10).await;
    device.engine.close().await;
    let device = stack.device("device").await;
    assert_eq!(stack.settle(&[&device]).await.len(), 10);
}

/// When, by the device's clock, the server was called.
fn calls(stack: &Stack, device: &Device, reply: Vec<u8>) -> Arc<Mutex<Vec<i64>>> {
    let (calls, clock) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&device.clock));
    let noted = Arc::clone(&calls);
    stack.proxy.plan(move |_| {
        noted.lock().unwrap().push(clock.now());
        Fate::Answer(reply.clone())
    });
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_patience_gets_it() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let stack = Stack::new().await;
        let setup = |setup: &mut Setup| {
            worker(setup);
            setup.config.max_backoff = Duration::from_secs(1);
        };
        let device = stack.device_with("device", setup).await;
        within(device.engine.initial_sync_done()).await.unwrap();
        stack.proxy.arrival("/v1/events").await;
        let calls = calls(&stack, &device, error_reply(status, "unavailable", "retry-after: 1000\r\n"));
        device.write("x", json!({"a": 1})).await;
        until(async || !calls.lock().unwrap().is_empty()).await;
        until(async || device.engine.status().await.unwrap().connection == ConnectionState::Offline).await;
        // More work is no reason to ask earlier.
        device.write("y", json!({"a": 1})).await;
        device.clock.pass(Duration::from_secs(999)).await;
        assert_eq!(calls.lock().unwrap().len(), 1, "{status}: {:?}", calls.lock().unwrap());
        stack.proxy.heal();
        device.clock.pass(Duration::from_secs(1)).await;
        until(async || device.state().await.pending == 0).await;
        assert_eq!(stack.records("ada", TABLE).await.len(), 2);
        untouched_queue(&device, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_does_not_spin() {
    let stack = Stack::new().await;
    stack.proxy.always("/v1/heads", || {
        Fate::Answer(error_reply("503 Service Unavailable", "unavailable", "retry-after: 3000\r\n"))
    });
    let device = stack.device_with("device", worker).await;
    device.write("x", json!({"a": 1})).await;
    stack.proxy.arrival("/v1/heads").await;
    until(async || device.engine.status().await.unwrap().connection == ConnectionState::Offline).await;
    let before = device.clock.sleeps.load(Ordering::Acquire);
    device.clock.pass(Duration::from_secs(2900)).await;
    let sleeps = device.clock.sleeps.load(Ordering::Acquire) - before;
    assert!(sleeps < 20, "woke up {sleeps} times for nothing");
    // Signed out, too, there is nothing to do.
    device.engine.logout(true).await.unwrap();
    let before = device.clock.sleeps.load(Ordering::Acquire);
    device.clock.pass(10 * DAY).await;
    let sleeps = device.clock.sleeps.load(Ordering::Acquire) - before;
    assert!(sleeps < 20, "woke up {sleeps} times for nothing");
}

/// An account service.
struct Account {
    token: Mutex<Secret>,
    fresh: Option<Secret>,
    refreshed: AtomicUsize,
}

#[async_trait]
impl TokenProvider for Account {
    async fn token(&self) -> Result<Secret, TokenError> {
        Ok(self.token.lock().unwrap().clone())
    }

    async fn refresh(&self, _: &Secret) -> Result<Option<Secret>, TokenError> {
        self.refreshed.fetch_add(1, Ordering::AcqRel);
        if let Some(fresh) = &self.fresh {
            *self.token.lock().unwrap() = fresh.clone();
        }
        Ok(self.fresh.clone())
    }
}

async fn with_account(stack: &Stack, fresh: Option<Secret>) -> (Arc<Account>, Device) {
    let token = Mutex::new(Secret::new("a token that has expired"));
    let account = Arc::new(Account { token, fresh, refreshed: 0.into() });
    let provider = Arc::clone(&account);
    let setup =
        move |setup: &mut Setup| setup.remote = Box::new(move |remote| remote.token_provider(provider));
    (account, stack.device_with("device", setup).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_refreshed_once_and_nobody_notices() {
    let stack = Stack::new().await;
    let (account, device) = with_account(&stack, Some(Secret::new(stack.token("ada")))).await;
    let mut events = device.engine.events();
    device.write("x", json!({"a": 1})).await;
    device.sync().await;
    assert_eq!(account.refreshed.load(Ordering::Acquire), 1);
    assert!(!told(&mut events).iter().any(|event| matches!(event, SyncEvent::AuthRequired { .. })));
    assert_eq!(stack.records("ada", TABLE).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_ended_is_reported_and_counted_against_nothing() {
    for fresh in [None, Some(Secret::new("another bad token"))] {
        let stack = Stack::new().await;
        let (account, device) = with_account(&stack, fresh).await;
        let mut events = device.engine.events();
        device.write("x", json!({"a": 1})).await;
        let refused = within(device.engine.sync_all()).await.unwrap_err();
        assert!(matches!(refused, SyncError::AuthExpired { .. }) && refused.is_auth(), "{refused}");
        assert_eq!(account.refreshed.load(Ordering::Acquire), 1);
        assert!(told(&mut events).iter().any(|event| matches!(event, SyncEvent::AuthRequired { .. })));
        untouched_queue(&device, 1).await;
        *account.token.lock().unwrap() = Secret::new(stack.token("ada"));
        device.sync().await;
        assert_eq!(stack.records("ada", TABLE).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_session_asks_nobody_until_somebody_signs_in() {
    let stack = Stack::new().await;
    let token = Mutex::new(Secret::new("a token that has expired"));
    let account = Arc::new(Account { token, fresh: None, refreshed: 0.into() });
    let provider = Arc::clone(&account);
    let setup = move |setup: &mut Setup| {
        worker(setup);
        setup.remote = Box::new(move |remote| remote.token_provider(provider));
    };
    let device = stack.device_with("device", setup).await;
    assert!(!within(device.engine.initial_sync_done()).await.unwrap());
    device.write("x", json!({"a": 1})).await;
    stack.proxy.forget();
    device.clock.pass(DAY).await;
    assert!(
        stack.proxy.seen().is_empty(),
        "{:?}",
        stack.proxy.seen().iter().map(|r| &r.path).collect::<Vec<_>>()
    );
    *account.token.lock().unwrap() = Secret::new(stack.token("ada"));
    device.sync().await;
    device.write("y", json!({"a": 1})).await;
    until(async || device.state().await.pending == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_number_of_503s_counts_against_an_edit() {
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    device.sync().await;
    for n in 0..10 {
        device.write(&format!("r{n}"), json!({"a": n})).await;
    }
    device.patch("r0", json!({"b": 1})).await;
    device.remove("r1").await;
    let entries = device.state().await.pending;
    stack.proxy.plan(|_| Fate::Answer(error_reply("503 Service Unavailable", "unavailable", "")));
    // A month, an hour at a time, with the settings that everybody has.
    for _ in 0..30 * 24 {
        assert!(within(device.engine.drain()).await.unwrap_err().is_transient());
        device.clock.advance(HOUR);
    }
    assert!(stack.proxy.seen().len() >= 30 * 24);
    let sent = device.state().await.pending;
    assert!(sent <= entries && sent >= 10, "{sent} of {entries}");
    untouched_queue(&device, sent).await;
    stack.proxy.heal();
    let other = stack.device("other").await;
    let records = stack.settle(&[&device, &other]).await;
    assert_eq!((records.len(), &records["r0"]), (9, &json!({"a": 0, "b": 1})));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_between_any_two_requests_loses_nothing_and_doubles_nothing() {
    for patches in [false, true] {
        for expires in 0..5 {
            let stack = Stack::new().await;
            let device = stack.device_with("device", |setup| setup.config.batch_size = 1).await;
            let ids = ["a", "b", "c", "d", "e"];
            if patches {
                for id in ids {
                    device.write(id, json!({"a": 0})).await;
                }
            }
            device.sync().await;
            for id in ids {
                if patches {
                    device.patch(id, json!({"b": 1})).await;
                } else {
                    device.write(id, json!({"b": 1})).await;
                }
            }
            stack.proxy.forget();
            let mut pushes = 0;
            stack.proxy.plan(move |request| {
                pushes += usize::from(request.path == "/v1/push");
                if pushes > expires {
                    Fate::Answer(error_reply("401 Unauthorized", "unauthorized", ""))
                } else {
                    Fate::Through
                }
            });
            let mut events = device.engine.events();
            assert!(within(device.engine.drain()).await.unwrap_err().is_auth());
            untouched_queue(&device, 5 - expires as u64).await;
            assert!(!told(&mut events).iter().any(|event| matches!(event, SyncEvent::PoisonPill { .. })));
            stack.proxy.heal();
            device.sync().await;
            let sent: Vec<String> =
                stack.proxy.seen_at("/v1/push").iter().flat_map(crate::proxy::Request::ids).collect();
            let mut expected: Vec<&str> = ids.to_vec();
            expected.insert(expires, ids[expires]);
            assert_eq!(sent, expected, "what had arrived is not sent again, the order is kept");
            let fields = if patches { json!({"a": 0, "b": 1}) } else { json!({"b": 1}) };
            let records = stack.settle(&[&device]).await;
            assert_eq!(records, ids.map(|id| (id.to_owned(), fields.clone())).into());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_shown_to_the_server_once_a_start() {
    let stack = Stack::new().await;
    for start in 1..=3 {
        let setup = |setup: &mut Setup| {
            worker(setup);
            setup.remote = Box::new(|remote| remote.token("a token that was revoked"));
        };
        let device = stack.device_with("device", setup).await;
        assert!(!within(device.engine.initial_sync_done()).await.unwrap());
        device.write(&format!("r{start}"), json!({"a": 1})).await;
        device.clock.pass(10 * DAY).await;
        let asked = stack.proxy.seen_at("/v1/heads").len();
        assert_eq!((asked, stack.proxy.seen_at("/v1/push").len()), (start, 0));
        // The hints are a request of their own, if they were asked for before the answer came.
        assert!(stack.proxy.seen().len() <= 2 * start, "{}", stack.proxy.seen().len());
        assert_eq!(device.state().await.pending, start as u64);
        device.engine.close().await;
    }
}

/// An account service that takes all the time in the world.
struct Silent;

#[async_trait]
impl TokenProvider for Silent {
    async fn token(&self) -> Result<Secret, TokenError> {
        std::future::pending().await
    }

    async fn refresh(&self, _: &Secret) -> Result<Option<Secret>, TokenError> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_service_that_never_answers_holds_up_no_edit() {
    let stack = Stack::new().await;
    let setup = |setup: &mut Setup| {
        worker(setup);
        setup.remote = Box::new(|remote| remote.token_provider(Arc::new(Silent)));
    };
    let device = stack.device_with("device", setup).await;
    until(async || device.engine.is_draining()).await;
    for n in 0..20 {
        within(device.write(&format!("r{n}"), json!({"a": n}))).await;
    }
    assert_eq!((within(device.state()).await.pending, device.rows(TABLE).await.len()), (20, 20));
    assert!(stack.proxy.seen().is_empty());
    within(device.engine.close()).await;
}
