//! A server that says exactly what a test wants it to say.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

use dynos_sync_core::wire::PullRequest;
use dynos_sync_remote::{HttpRemote, HttpRemoteBuilder};

/// A request as it arrived. Header names are in lower case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What is sent back, and what happens afterwards.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    pub(crate) delay: Duration,
    pub(crate) bytes: Vec<u8>,
    pub(crate) then: Then,
}

#[derive(Clone, Default)]
pub(crate) enum Then {
    /// Wait for the next request.
    #[default]
    Next,
    /// Close the connection.
    Close,
    /// Send the bytes again and again, with a pause.
    Repeat(Vec<u8>, Duration),
    /// Keep the connection and say nothing.
    Silence,
}

impl Reply {
    /// An answer with a length.
    pub(crate) fn new(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
        Self { bytes: [head.as_bytes(), body].concat(), ..Self::default() }
    }

    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::new(status, "content-type: application/json\r\n", body)
    }

    /// The body of an error, as the protocol has it.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        Self::json(status, &format!(r#"{{"error":{{"code":"{code}","message":"told so"}}}}"#))
    }

    /// No tables.
    pub(crate) fn tables() -> Self {
        Self::json(200, r#"{"tables":[]}"#)
    }

    pub(crate) fn raw(bytes: impl AsRef<[u8]>, then: Then) -> Self {
        Self { bytes: bytes.as_ref().to_vec(), then, ..Self::default() }
    }

    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// Runs until the test's runtime ends.
#[derive(Clone)]
pub(crate) struct Server {
    port: u16,
    handler: Arc<Handler>,
    seen: Arc<Mutex<Vec<Seen>>>,
    written: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let (server, listener) = Self::bind(handler).await;
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(socket));
            }
        });
        server
    }

    /// For servers that accept connections in their own way.
    pub(crate) async fn bind(
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            handler: Arc::new(handler),
            seen: Arc::default(),
            written: Arc::default(),
            closed: Arc::default(),
        };
        (server, listener)
    }

    pub(crate) async fn always(reply: Reply) -> Self {
        Self::start(move |_| reply.clone()).await
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn builder(&self) -> HttpRemoteBuilder {
        HttpRemote::builder(self.url()).token("t0ken")
    }

    pub(crate) fn remote(&self) -> HttpRemote {
        self.builder().build().unwrap()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Bytes that the sockets took.
    pub(crate) fn written(&self) -> usize {
        self.written.load(Ordering::SeqCst)
    }

    /// Waits until the client has closed a connection.
    pub(crate) async fn closed(&self) {
        let begun = Instant::now();
        while self.closed.load(Ordering::SeqCst) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "the client keeps the connection");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn serve(self, mut socket: impl AsyncRead + AsyncWrite + Unpin) {
        let _ = self.converse(&mut socket).await;
        self.closed.fetch_add(1, Ordering::SeqCst);
    }

    async fn converse(&self, socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(seen) = request(socket, &mut buffer).await? {
            let reply = (self.handler)(&seen);
            self.seen.lock().unwrap().push(seen);
            tokio::time::sleep(reply.delay).await;
            self.write(socket, &reply.bytes).await?;
            match reply.then {
                Then::Next => {}
                Then::Close => return socket.shutdown().await,
                Then::Silence => {
                    socket.read_to_end(&mut buffer).await?;
                }
                Then::Repeat(bytes, pause) => loop {
                    self.write(socket, &bytes).await?;
                    tokio::time::sleep(pause).await;
                },
            }
        }
        Ok(())
    }

    async fn write(&self, socket: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = socket.write(bytes).await?;
            self.written.fetch_add(written, Ordering::SeqCst);
            bytes = &bytes[written..];
        }
        socket.flush().await
    }
}

async fn request(socket: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<Option<Seen>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let mut seen = head(&String::from_utf8_lossy(&buffer[..end]));
    buffer.drain(..end);
    let length = seen.header("content-length").parse().unwrap_or(0);
    while buffer.len() < length {
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    seen.body = buffer.drain(..length).collect();
    Ok(Some(seen))
}

fn head(text: &str) -> Seen {
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    Seen {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: Vec::new(),
    }
}

/// Asks for a page of tasks.
pub(crate) fn pull(limit: usize) -> PullRequest {
    PullRequest {
        replica: dynos_sync_core::ReplicaId::from_random([1; 16]),
        table: "tasks".parse().unwrap(),
        cursor: None,
        seen: None,
        limit,
        unsettled: vec![],
        all: false,
    }
}
