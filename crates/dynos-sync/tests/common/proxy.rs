//! A proxy between the devices and the server: it records what passes, and loses, holds, answers or changes it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dynos_sync::core::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use crate::stack::within;

/// A request, as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) raw: Vec<u8>,
    pub(crate) path: String,
    head: usize,
}

impl Request {
    /// The length of the body.
    pub(crate) fn size(&self) -> usize {
        self.raw.len() - self.head
    }

    pub(crate) fn body(&self) -> Value {
        serde_json::from_slice(&self.raw[self.head..]).unwrap_or_default()
    }

    /// The ids of the records that a push carries.
    pub(crate) fn ids(&self) -> Vec<String> {
        let entries = self.body()["entries"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn carries(&self, text: &str) -> bool {
        self.raw.windows(text.len()).any(|part| part == text.as_bytes())
    }
}

/// What becomes of a request.
pub(crate) enum Fate {
    Through,
    /// The server never sees it.
    LoseRequest,
    /// The server answers, and nobody hears it.
    LoseReply,
    /// The server never sees it, and the device waits.
    Hold,
    /// The server answers, and the device waits.
    HoldReply,
    /// It passes when the gate is opened.
    Wait(Arc<Semaphore>),
    /// These bytes are the answer.
    Answer(Vec<u8>),
    /// The server's answer, byte by byte.
    Drip,
    /// The server's answer, changed.
    Rewrite(Box<dyn FnOnce(&mut Value) + Send>),
    /// These bytes, and then the others again and again, until the device has had enough.
    Flood(Vec<u8>, Vec<u8>),
}

type Plan = Box<dyn FnMut(&Request) -> Fate + Send>;

#[derive(Clone)]
pub(crate) struct Proxy(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    upstream: Mutex<Option<SocketAddr>>,
    plan: Mutex<Plan>,
    seen: Mutex<Vec<Request>>,
    arrived: watch::Sender<usize>,
    /// Pushes that the server is at work on, and the most there were.
    pushing: AtomicUsize,
    most: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = Inner {
            address: listener.local_addr().unwrap(),
            upstream: Mutex::default(),
            plan: Mutex::new(Box::new(|_| Fate::Through)),
            seen: Mutex::default(),
            arrived: watch::Sender::new(0),
            pushing: 0.into(),
            most: 0.into(),
        };
        let proxy = Self(Arc::new(inner));
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((device, _)) = listener.accept().await {
                let proxy = serving.clone();
                // A connection that breaks is the tests' daily bread.
                tokio::spawn(async move { drop(proxy.serve(device).await) });
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    pub(crate) fn set_upstream(&self, upstream: Option<SocketAddr>) {
        *self.0.upstream.lock().unwrap() = upstream;
    }

    /// Decides about every request from now on.
    pub(crate) fn plan(&self, plan: impl FnMut(&Request) -> Fate + Send + 'static) {
        *self.0.plan.lock().unwrap() = Box::new(plan);
    }

    /// Lets everything pass again.
    pub(crate) fn heal(&self) {
        self.plan(|_| Fate::Through);
    }

    /// One request to this path meets its fate, all others pass.
    pub(crate) fn once(&self, path: &'static str, fate: Fate) {
        let mut fate = Some(fate);
        self.plan(
            move |request| {
                if request.path == path { fate.take().unwrap_or(Fate::Through) } else { Fate::Through }
            },
        );
    }

    /// All requests to this path meet this fate.
    pub(crate) fn always(&self, path: &'static str, fate: impl Fn() -> Fate + Send + 'static) {
        self.plan(move |request| if request.path == path { fate() } else { Fate::Through });
    }

    pub(crate) fn offline(&self) {
        self.plan(|_| Fate::LoseRequest);
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.0.seen.lock().unwrap().clone()
    }

    pub(crate) fn seen_at(&self, path: &str) -> Vec<Request> {
        self.seen().into_iter().filter(|request| request.path == path).collect()
    }

    pub(crate) fn forget(&self) {
        self.0.seen.lock().unwrap().clear();
    }

    /// Waits until a request to the path has arrived.
    pub(crate) async fn arrival(&self, path: &str) {
        let mut arrived = self.0.arrived.subscribe();
        within(arrived.wait_for(|_| !self.seen_at(path).is_empty())).await.unwrap();
    }

    /// Sends a recorded request to the server once more, and answers what it says.
    pub(crate) async fn replay(&self, request: &Request) -> Value {
        let reply = self.forward(request).await.unwrap();
        serde_json::from_slice(&reply[head_length(&reply).unwrap()..]).unwrap()
    }

    /// What the server answers to a GET, past everything.
    pub(crate) async fn get(&self, path: &str) -> String {
        let raw = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes();
        let request = Request { head: raw.len(), raw, path: path.to_owned() };
        String::from_utf8(within(self.forward(&request)).await.unwrap()).unwrap()
    }

    /// The most pushes that the server was at work on at one time.
    pub(crate) fn most_pushes_at_once(&self) -> usize {
        self.0.most.load(Ordering::Acquire)
    }

    async fn serve(&self, mut device: TcpStream) -> std::io::Result<()> {
        let request = read_request(&mut device).await?;
        let fate = (self.0.plan.lock().unwrap())(&request);
        self.0.seen.lock().unwrap().push(request.clone());
        self.0.arrived.send_modify(|count| *count += 1);
        match fate {
            Fate::Through if request.path == "/v1/events" => self.pass_events(&request, device).await,
            Fate::Through => {
                let reply = self.forward(&request).await?;
                finish(device, &reply).await
            }
            Fate::Wait(gate) => {
                gate.acquire().await.unwrap().forget();
                let reply = self.forward(&request).await?;
                finish(device, &reply).await
            }
            Fate::LoseRequest => Ok(()),
            Fate::LoseReply => self.forward(&request).await.map(drop),
            Fate::Hold => until_closed(device).await,
            Fate::HoldReply => {
                self.forward(&request).await?;
                until_closed(device).await
            }
            Fate::Drip => {
                for byte in self.forward(&request).await? {
                    device.write_all(&[byte]).await?;
                    tokio::task::yield_now().await;
                }
                device.shutdown().await
            }
            Fate::Answer(bytes) => finish(device, &bytes).await,
            Fate::Rewrite(change) => {
                let reply = self.forward(&request).await?;
                let mut body = serde_json::from_slice(&reply[head_length(&reply).unwrap()..])?;
                change(&mut body);
                finish(device, &json_reply(&body)).await
            }
            Fate::Flood(head, more) => {
                device.write_all(&head).await?;
                loop {
                    device.write_all(&more).await?;
                }
            }
        }
    }

    async fn connect(&self, request: &Request) -> std::io::Result<TcpStream> {
        let upstream = *self.0.upstream.lock().unwrap();
        let upstream = upstream.ok_or(std::io::ErrorKind::ConnectionRefused)?;
        let mut server = TcpStream::connect(upstream).await?;
        let head = String::from_utf8_lossy(&request.raw[..request.head]).into_owned();
        let kept = head.trim_end().split("\r\n").filter(|line| {
            let line = line.to_ascii_lowercase();
            !line.starts_with("accept-encoding:") && !line.starts_with("connection:")
        });
        let kept: Vec<&str> = kept.collect();
        let head = format!("{}\r\nconnection: close\r\n\r\n", kept.join("\r\n"));
        server.write_all(head.as_bytes()).await?;
        server.write_all(&request.raw[request.head..]).await?;
        Ok(server)
    }

    async fn forward(&self, request: &Request) -> std::io::Result<Vec<u8>> {
        let is_push = usize::from(request.path == "/v1/push");
        let pushing = self.0.pushing.fetch_add(is_push, Ordering::AcqRel) + is_push;
        self.0.most.fetch_max(pushing, Ordering::AcqRel);
        let reply = self.ask(request).await;
        self.0.pushing.fetch_sub(is_push, Ordering::AcqRel);
        reply
    }

    async fn ask(&self, request: &Request) -> std::io::Result<Vec<u8>> {
        let mut server = self.connect(request).await?;
        let mut reply = Vec::new();
        server.read_to_end(&mut reply).await?;
        Ok(reply)
    }

    async fn pass_events(&self, request: &Request, mut device: TcpStream) -> std::io::Result<()> {
        let mut server = self.connect(request).await?;
        tokio::io::copy_bidirectional(&mut server, &mut device).await.map(drop)
    }
}

async fn read_request(device: &mut TcpStream) -> std::io::Result<Request> {
    let mut raw = Vec::new();
    loop {
        if let Some(head) = head_length(&raw) {
            let text = String::from_utf8_lossy(&raw[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
            if raw.len() >= head + length {
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                return Ok(Request { raw, path, head });
            }
        }
        if device.read_buf(&mut raw).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4)
}

async fn finish(mut device: TcpStream, reply: &[u8]) -> std::io::Result<()> {
    device.write_all(reply).await?;
    device.shutdown().await
}

async fn until_closed(mut device: TcpStream) -> std::io::Result<()> {
    while device.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

/// A whole HTTP answer.
pub(crate) fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

pub(crate) fn json_reply(body: &Value) -> Vec<u8> {
    reply("200 OK", "content-type: application/json\r\n", body.to_string().as_bytes())
}

/// An error answer of the protocol's.
pub(crate) fn error_reply(status: &str, code: &str, headers: &str) -> Vec<u8> {
    let body = dynos_sync::json!({"error": {"code": code, "message": "so says the test"}});
    let headers = format!("content-type: application/json\r\n{headers}");
    reply(status, &headers, body.to_string().as_bytes())
}

/// How long a refused thing may take at most before a test calls it hanging.
pub(crate) const PROMPT: Duration = Duration::from_secs(5);
