//! The network: a process that stands between one device and the server, and does to what passes whatever networks do.
//!
//! It is told `rough` or `calm` on its stdin, ends when that ends, and says on its stdout what it did: see [`crate::link`].

mod exchange;
mod fate;
mod http;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use self::{
    exchange::{exchange, until_closed},
    fate::Welcome,
};
use crate::certificates;

/// What a proxy is told when it starts.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ProxyArgs {
    /// Where to listen. Port 0 picks a free one.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the server is.
    #[arg(long)]
    upstream: SocketAddr,
    #[arg(long)]
    seed: u64,
    /// What share of requests meets a fate.
    #[arg(long)]
    rate: f64,
    /// Speak TLS, with the certificates of this directory.
    #[arg(long)]
    tls: Option<PathBuf>,
}

struct Proxy {
    upstream: SocketAddr,
    rate: f64,
    dice: Mutex<fastrand::Rng>,
    rough: watch::Sender<bool>,
    /// Requests that are, or will be, on their way to the server.
    under_way: watch::Sender<usize>,
    good: Option<TlsAcceptor>,
    bad: Vec<TlsAcceptor>,
    /// Where redirects lead that must not be followed.
    elsewhere: SocketAddr,
}

/// Serves until stdin ends.
pub(crate) async fn run(args: ProxyArgs) -> io::Result<()> {
    let (listener, elsewhere) = (bind(args.listen).await?, TcpListener::bind("127.0.0.1:0").await?);
    let (good, bad) = match &args.tls {
        Some(dir) => (Some(certificates::good(dir)?), certificates::bad(dir)?),
        None => (None, Vec::new()),
    };
    let proxy = Arc::new(Proxy {
        upstream: args.upstream,
        rate: args.rate,
        dice: Mutex::new(fastrand::Rng::with_seed(args.seed)),
        rough: watch::Sender::new(true),
        under_way: watch::Sender::new(0),
        good,
        bad,
        elsewhere: elsewhere.local_addr()?,
    });
    say(format_args!("listening {}", listener.local_addr()?));
    tokio::spawn(trap(elsewhere));
    let serving = proxy.clone();
    tokio::spawn(async move {
        loop {
            if let Ok((device, _)) = listener.accept().await {
                // Broken connections are what this is for.
                tokio::spawn(serve(serving.clone(), device));
            }
        }
    });
    obey(&proxy).await
}

/// The port may be taken for a moment by a connection that the machine gave it to.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let mut left = 400;
    loop {
        match TcpListener::bind(address).await {
            Err(_) if left > 0 => left -= 1,
            done => return done,
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Tells the one who started this. Where nobody listens any more, stdin has ended too.
fn say(line: std::fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

async fn obey(proxy: &Proxy) -> io::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        proxy.rough.send_replace(line == "rough");
        if line == "calm" {
            // What was held back is let go first: nothing comes late into a calm network.
            let _ = proxy.under_way.subscribe().wait_for(|under_way| *under_way == 0).await;
            say(format_args!("calm"));
        }
    }
    Ok(())
}

/// Where no device must ever come.
async fn trap(elsewhere: TcpListener) {
    while let Ok((mut stream, _)) = elsewhere.accept().await {
        let mut bytes = vec![0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut bytes)).await;
        let read = read.ok().and_then(Result::ok).unwrap_or(0);
        say(format_args!("violation a redirect to another place was followed, with {read} bytes"));
    }
}

impl Proxy {
    fn dice<T>(&self, roll: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        roll(&mut self.dice.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn rate(&self) -> f64 {
        if *self.rough.borrow() { self.rate } else { 0.0 }
    }

    /// Until the network is calm.
    async fn calm(&self) {
        let _ = self.rough.subscribe().wait_for(|rough| !rough).await;
    }
}

async fn serve(proxy: Arc<Proxy>, mut device: TcpStream) {
    let _ = device.set_nodelay(true);
    let welcome = proxy.dice(|dice| Welcome::roll(dice, proxy.rate(), proxy.bad.len()));
    match welcome {
        Welcome::Refused => say(format_args!("fault connection refused")),
        Welcome::HalfOpen => {
            say(format_args!("fault half-open"));
            until_closed(&mut device, &proxy).await;
        }
        Welcome::BadCertificate(which) => {
            say(format_args!("fault {} certificate", certificates::BAD[which]));
            deceive(&proxy.bad[which], device, certificates::BAD[which]).await;
        }
        Welcome::Served => match &proxy.good {
            None => exchange(&proxy, device).await,
            Some(tls) => {
                // It may be killed in the midst of the handshake. One that never trusts the certificate would never sync.
                if let Ok(device) = tls.accept(device).await {
                    exchange(&proxy, device).await;
                }
            }
        },
    }
}

/// A device that meets a certificate which it must not believe has to keep everything to itself.
async fn deceive(tls: &TlsAcceptor, device: TcpStream, name: &str) {
    let Ok(mut device) = tls.accept(device).await else { return };
    let mut bytes = vec![0; 4096];
    if let Ok(read @ 1..) = device.read(&mut bytes).await {
        say(format_args!("violation {read} bytes were sent to a server with a {name} certificate"));
    }
}
