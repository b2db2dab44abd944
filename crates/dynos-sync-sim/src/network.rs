//! Between devices and server: requests and answers that are late, lost, repeated or refused.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use dynos_sync_core::{
    Millis, Remote, RemoteError, TableName, TableSpec,
    wire::{Heads, HeadsRequest, Hint, Page, PullRequest, PushAnswer, PushRequest},
};
use futures_channel::{mpsc, oneshot};
use futures_util::{
    StreamExt,
    future::{Either, select},
    stream::{self, BoxStream},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    executor::Spawner,
    server::Server,
    tally::{Activity, Doing, Tally},
    time::Timeline,
};

/// How much goes wrong on the wire, in percent of the calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// A request is lost on its way.
    pub lost_request: u8,
    /// An answer is lost on its way.
    pub lost_answer: u8,
    /// A request arrives long after its sender has given up.
    pub late: u8,
    /// A request arrives again, some time later.
    pub repeated: u8,
    /// The server answers that it cannot, and has done nothing.
    pub refused: u8,
    /// The server answers that it cannot, and has done it.
    pub failed: u8,
    /// The server answers that it is asked too often.
    pub throttled: u8,
    /// The token has expired.
    pub expired: u8,
    /// The largest push that gets through, in bytes; 0 for any.
    pub body_limit: usize,
    /// A hint is lost.
    pub lost_hint: u8,
}

/// The network. Clones are the same.
#[derive(Clone, Debug)]
pub struct Network(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    random: fastrand::Rng,
    trouble: Trouble,
    tally: Tally,
    offline: BTreeMap<usize, bool>,
    /// Who hears no answer for the time being.
    deaf: Option<usize>,
    listeners: Vec<Listener>,
    /// One more with each server that was put in place of the last: what was on its way to that one arrives nowhere.
    server: u64,
    /// The like for devices.
    devices: BTreeMap<usize, u64>,
    /// One for each request that is on its way.
    under_way: Arc<()>,
}

#[derive(Debug)]
struct Listener {
    device: usize,
    user: String,
    hints: mpsc::UnboundedSender<Hint>,
}

/// How long a device waits for an answer.
pub(crate) const PATIENCE: Millis = 30_000;

impl Network {
    /// A network with so much trouble.
    pub fn new(seed: u64, trouble: Trouble, tally: Tally) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (offline, listeners) = (BTreeMap::new(), Vec::new());
        Self(Arc::new(Mutex::new(Inner {
            random,
            trouble,
            tally,
            offline,
            deaf: None,
            listeners,
            server: 0,
            devices: BTreeMap::new(),
            under_way: Arc::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        let mut inner = self.lock();
        inner.trouble = Trouble { body_limit: inner.trouble.body_limit, ..Trouble::default() };
        inner.offline.clear();
    }

    /// Cuts a device off, or connects it again.
    pub fn set_offline(&self, device: usize, offline: bool) {
        let mut inner = self.lock();
        inner.offline.insert(device, offline);
        if offline {
            inner.listeners.retain(|listener| listener.device != device);
        }
    }

    /// No answer reaches this device, until it is said anew.
    pub fn set_deaf(&self, device: Option<usize>) {
        self.lock().deaf = device;
    }

    /// Whether an answer does not reach a device.
    fn loses_answer(&self, device: usize, during: Doing) -> bool {
        let deaf = self.lock().deaf == Some(device);
        if deaf {
            self.lock().tally.fault("answer lost", during);
        }
        deaf || self.strikes(|t| t.lost_answer, "answer lost", during) || self.is_offline(device)
    }

    /// The server's machine is another one now, or has lost its memory: no connection to it survives that.
    pub fn cut(&self) {
        self.lock().server += 1;
    }

    /// A device's file is another one now: what it had sent and has not arrived does not any more.
    pub fn cut_device(&self, device: usize) {
        *self.lock().devices.entry(device).or_default() += 1;
    }

    /// Whether nothing is on its way any more.
    pub fn is_quiet(&self) -> bool {
        Arc::strong_count(&self.lock().under_way) == 1
    }

    /// Which server and which device a request is between.
    fn ends(&self, device: usize) -> (u64, u64) {
        let inner = self.lock();
        (inner.server, inner.devices.get(&device).copied().unwrap_or(0))
    }

    /// Whether a device is cut off.
    pub fn is_offline(&self, device: usize) -> bool {
        self.lock().offline.get(&device).copied().unwrap_or(false)
    }

    fn strikes(&self, pick: impl Fn(&Trouble) -> u8, name: &'static str, during: Doing) -> bool {
        let mut inner = self.lock();
        let percent = pick(&inner.trouble);
        let strikes = percent > 0 && inner.random.u8(..100) < percent;
        if strikes {
            inner.tally.fault(name, during);
        }
        strikes
    }

    fn is_too_large(&self, bytes: usize) -> bool {
        let inner = self.lock();
        let too_large = (1..bytes).contains(&inner.trouble.body_limit);
        if too_large {
            inner.tally.fault("too large", Doing::Pushing);
        }
        too_large
    }

    fn pause(&self, longest: Millis) -> Millis {
        self.lock().random.i64(1..=longest)
    }

    fn moved(&self, tables: &[(String, TableName)]) {
        let mut inner = self.lock();
        let Inner { random, trouble, listeners, tally, .. } = &mut *inner;
        for (scope, table) in tables {
            for listener in listeners.iter().filter(|l| scope == "s" || *scope == format!("u:{}", l.user)) {
                if random.u8(..100) < trouble.lost_hint {
                    tally.fault("hint lost", Doing::Following);
                    continue;
                }
                // Whoever listened may be gone.
                let _ = listener.hints.unbounded_send(Hint { tables: vec![table.clone()] });
            }
        }
    }
}

/// A device's way to the server.
#[derive(Debug)]
pub struct Link {
    /// The network.
    pub network: Network,
    /// What is at its other end.
    pub server: Server,
    /// The time.
    pub timeline: Timeline,
    /// Where what is on its way is kept.
    pub spawner: Spawner,
    /// Whose link this is.
    pub device: usize,
    /// As whom the device calls.
    pub user: String,
    /// What the device is about.
    pub activity: Activity,
    /// What the device has sent, as it was on the wire.
    pub sent: Arc<Mutex<Vec<String>>>,
}

type Handler<Q, A> = fn(&Server, &Network, &str, usize, Q) -> Result<A, RemoteError>;

impl Link {
    async fn call<Q, A>(&self, during: Doing, request: &Q, handler: Handler<Q, A>) -> Result<A, RemoteError>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        A: Serialize + DeserializeOwned + Send + 'static,
    {
        self.activity.set(during);
        let network = &self.network;
        if network.is_offline(self.device) {
            self.timeline.sleep(network.pause(50)).await;
            return Err(RemoteError::transient("there is no network"));
        }
        let body = serde_json::to_string(request).map_err(unreadable)?;
        self.sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(body.clone());
        if network.strikes(|t| t.expired, "token expired", during) {
            return Err(RemoteError::AuthExpired { message: "the token has expired".to_owned() });
        }
        if during == Doing::Pushing && network.is_too_large(body.len()) {
            return Err(RemoteError::TooLarge);
        }
        let (reply, answer) = oneshot::channel();
        let late = network.strikes(|t| t.late, "request late", during);
        if !network.strikes(|t| t.lost_request, "request lost", during) {
            let delay = network.pause(if late { 10 * PATIENCE } else { 100 });
            self.send(body.clone(), delay, Some(reply), during, handler);
        }
        if network.strikes(|t| t.repeated, "request repeated", during) {
            self.send(body, network.pause(4 * PATIENCE), None, during, handler);
        }
        match select(answer, self.timeline.sleep(PATIENCE)).await {
            Either::Left((Ok(answer), _)) => answer,
            // The other end is gone, which does not show before the time is up.
            Either::Left((Err(_), patience)) => {
                patience.await;
                Err(RemoteError::transient("no answer"))
            }
            Either::Right(_) => Err(RemoteError::transient("no answer")),
        }
    }

    /// Puts a request on its way. It arrives whatever becomes of its sender.
    fn send<Q, A>(
        &self,
        body: String,
        delay: Millis,
        reply: Option<oneshot::Sender<Result<A, RemoteError>>>,
        during: Doing,
        handler: Handler<Q, A>,
    ) where
        Q: DeserializeOwned + Send + 'static,
        A: Serialize + DeserializeOwned + Send + 'static,
    {
        let (network, server, timeline) = (self.network.clone(), self.server.clone(), self.timeline.clone());
        let (user, device) = (self.user.clone(), self.device);
        let ends = network.ends(device);
        let under_way = Arc::clone(&network.lock().under_way);
        self.spawner.spawn(async move {
            let _under_way = under_way;
            timeline.sleep(delay).await;
            if network.ends(device) != ends {
                return;
            }
            let answer = serve(&network, &server, &user, device, &body, during, handler);
            timeline.sleep(network.pause(100)).await;
            if network.ends(device) != ends {
                return;
            }
            if network.loses_answer(device, during) {
                return;
            }
            if let Some(reply) = reply {
                // Whoever asked may be gone.
                let _ = reply.send(answer);
            }
        });
    }
}

fn serve<Q: DeserializeOwned, A: Serialize + DeserializeOwned>(
    network: &Network,
    server: &Server,
    user: &str,
    device: usize,
    body: &str,
    during: Doing,
    handler: Handler<Q, A>,
) -> Result<A, RemoteError> {
    if network.strikes(|t| t.throttled, "throttled", during) {
        let retry_after = Some(std::time::Duration::from_secs(5));
        return Err(RemoteError::Transient { message: "too many requests".to_owned(), retry_after });
    }
    if network.strikes(|t| t.refused, "unavailable", during) {
        return Err(RemoteError::transient("unavailable"));
    }
    let request = serde_json::from_str(body).map_err(unreadable)?;
    let answer = handler(server, network, user, device, request)?;
    if network.strikes(|t| t.failed, "failed after the fact", during) {
        return Err(RemoteError::transient("internal error"));
    }
    let body = serde_json::to_string(&answer).map_err(unreadable)?;
    serde_json::from_str(&body).map_err(unreadable)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: serde_json::Error) -> RemoteError {
    RemoteError::Protocol(error.to_string())
}

#[async_trait]
impl Remote for Link {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        self.call(Doing::Opening, &tables.to_vec(), |server, _, user, _, tables| server.declare(user, tables))
            .await
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        self.call(Doing::Opening, &(), |server, _, user, _, ()| server.tables(user)).await
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        let during = if request.tables.is_empty() { Doing::Opening } else { Doing::Following };
        self.call(during, &request, |server, _, user, _, request| server.heads(user, request)).await
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        let handler: Handler<PushRequest, PushAnswer> = |server, network, user, device, request| {
            let (answer, moved) = server.push(user, device, &request)?;
            network.moved(&moved);
            Ok(answer)
        };
        self.call(Doing::Pushing, request, handler).await
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        let during = if request.all { Doing::CatchingUp } else { Doing::Following };
        self.call(during, &request, |server, _, user, _, request| server.pull(user, request)).await
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        if self.network.is_offline(self.device) {
            return stream::empty().boxed();
        }
        let (hints, heard) = mpsc::unbounded();
        let (device, user) = (self.device, self.user.clone());
        let mut inner = self.network.lock();
        inner.listeners.retain(|listener| !listener.hints.is_closed());
        inner.listeners.push(Listener { device, user, hints });
        heard.boxed()
    }
}
