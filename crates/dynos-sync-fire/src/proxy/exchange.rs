//! One request and its answer.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::{Proxy, fate::Fate, http, http::Request, say};

/// The longest that a device is kept waiting: less than it would wait, so that there is more to see in an hour.
const PATIENCE: Duration = Duration::from_secs(3);

/// Serves one request, by its fate.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(proxy: &Arc<Proxy>, mut device: S) {
    let Ok(Some(request)) = Request::read(&mut device).await else { return };
    let fate = match proxy.dice(|dice| Fate::roll(dice, proxy.rate())) {
        Fate::Answer("413", _) if !request.is_long() => Fate::Through,
        fate => fate,
    };
    if let Some(name) = fate.name() {
        say(format_args!("fault {name}"));
    }
    // What fails here are connections, and those are the devices' to bear.
    let _ = meet(proxy, &request, fate, &mut device).await;
    let _ = device.shutdown().await;
}

async fn meet<S: AsyncRead + AsyncWrite + Unpin>(
    proxy: &Arc<Proxy>,
    request: &Request,
    fate: Fate,
    device: &mut S,
) -> io::Result<()> {
    match fate {
        Fate::Through | Fate::Double | Fate::Replay(_) if request.is_events() => {
            follow(proxy, request, device).await
        }
        Fate::Through => {
            let reply = ask(proxy, request).await?;
            give(device, &reply).await
        }
        Fate::LoseRequest => Ok(()),
        Fate::LoseAnswer => ask_for_a_while(proxy, request).await.map(drop),
        Fate::CutRequest(share) => cut(proxy, request, share).await,
        Fate::CutAnswer(share) => {
            let reply = ask_for_a_while(proxy, request).await?;
            give(device, &reply[..(reply.len() as f64 * share) as usize]).await
        }
        Fate::Shorten(share) => {
            let reply = ask_for_a_while(proxy, request).await?;
            let short = http::shortened(&reply, share);
            give(device, short.as_deref().unwrap_or(&reply[..reply.len() / 2])).await
        }
        Fate::DelayRequest(pause) => {
            wait(proxy, pause).await;
            let reply = ask_for_a_while(proxy, request).await?;
            give(device, &reply).await
        }
        Fate::DelayAnswer(pause) => {
            let reply = ask_for_a_while(proxy, request).await?;
            wait(proxy, pause).await;
            give(device, &reply).await
        }
        Fate::Double => {
            let (one, other) = tokio::join!(ask(proxy, request), ask(proxy, request));
            give(device, &one.or(other)?).await
        }
        Fate::Replay(pause) => {
            let reply = ask(proxy, request).await?;
            replay(proxy, request, pause);
            give(device, &reply).await
        }
        Fate::Silence => {
            until_closed(device, proxy).await;
            Ok(())
        }
        Fate::Answer(_, answer) => give(device, &answer).await,
        Fate::Away(status) => {
            let location = format!("location: http://{}{}\r\n", proxy.elsewhere, request.path);
            give(device, &http::answer(status, &location, b"")).await
        }
        Fate::Again => {
            let location = format!("location: {}\r\n", request.path);
            give(device, &http::answer("307 Temporary Redirect", &location, b"")).await
        }
    }
}

async fn give<S: AsyncWrite + Unpin>(device: &mut S, reply: &[u8]) -> io::Result<()> {
    device.write_all(reply).await?;
    device.flush().await
}

/// For so long, or until the network is calm.
async fn wait(proxy: &Proxy, pause: Duration) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = proxy.calm() => {}
    }
}

/// Reads and says nothing until the device gives up, or the network is calm.
pub(super) async fn until_closed<S: AsyncRead + Unpin>(device: &mut S, proxy: &Proxy) {
    let mut bytes = [0; 1024];
    let closed = async { while matches!(device.read(&mut bytes).await, Ok(1..)) {} };
    tokio::select! {
        () = closed => {}
        () = wait(proxy, PATIENCE) => {}
    }
}

/// Counts a request as being under way for as long as it lives.
struct UnderWay(Arc<Proxy>);

impl UnderWay {
    fn new(proxy: &Arc<Proxy>) -> Self {
        proxy.under_way.send_modify(|under_way| *under_way += 1);
        Self(proxy.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|under_way| *under_way -= 1);
    }
}

async fn connect(proxy: &Proxy, bytes: &[u8]) -> io::Result<TcpStream> {
    let mut server = TcpStream::connect(proxy.upstream).await?;
    server.set_nodelay(true)?;
    server.write_all(bytes).await?;
    Ok(server)
}

/// The server's whole answer.
async fn ask(proxy: &Arc<Proxy>, request: &Request) -> io::Result<Vec<u8>> {
    let _under_way = UnderWay::new(proxy);
    let onward = request.onward(proxy.dice(fastrand::Rng::bool));
    let mut server = connect(proxy, &onward).await?;
    let mut reply = Vec::new();
    server.read_to_end(&mut reply).await?;
    say(format_args!("bytes {}", onward.len() + reply.len()));
    Ok(reply)
}

/// As [`ask`]; the stream of hints, which has no end, is left after a while.
async fn ask_for_a_while(proxy: &Arc<Proxy>, request: &Request) -> io::Result<Vec<u8>> {
    if !request.is_events() {
        return ask(proxy, request).await;
    }
    let mut server = connect(proxy, &request.onward(true)).await?;
    let mut reply = Vec::new();
    let reading = async { while matches!(server.read_buf(&mut reply).await, Ok(1..)) {} };
    tokio::select! {
        () = reading => {}
        () = wait(proxy, PATIENCE / 10) => {}
    }
    Ok(reply)
}

/// The server sees the beginning of a request.
async fn cut(proxy: &Arc<Proxy>, request: &Request, share: f64) -> io::Result<()> {
    let _under_way = UnderWay::new(proxy);
    let onward = request.onward(true);
    let part = &onward[..(onward.len() as f64 * share) as usize];
    let server = connect(proxy, part).await?;
    say(format_args!("bytes {}", part.len()));
    drop(server);
    Ok(())
}

/// Sends the request once more, later. Who answers whom is of no interest any more.
fn replay(proxy: &Arc<Proxy>, request: &Request, pause: Duration) {
    let (proxy, request, under_way) = (proxy.clone(), request.clone(), UnderWay::new(proxy));
    tokio::spawn(async move {
        wait(&proxy, pause).await;
        let _ = ask(&proxy, &request).await;
        drop(under_way);
    });
}

/// The stream of hints, as it comes. Now and then it breaks.
async fn follow<S: AsyncRead + AsyncWrite + Unpin>(
    proxy: &Arc<Proxy>,
    request: &Request,
    device: &mut S,
) -> io::Result<()> {
    let mut server = connect(proxy, &request.onward(true)).await?;
    let life = Duration::from_millis(proxy.dice(|dice| dice.u64(100..20_000)));
    let breaks = async {
        tokio::time::sleep(life).await;
        if !*proxy.rough.borrow() {
            std::future::pending::<()>().await;
        }
        say(format_args!("fault hints cut"));
    };
    tokio::select! {
        done = tokio::io::copy_bidirectional(&mut server, device) => done.map(drop),
        () = breaks => Ok(()),
    }
}
