//! A WebSocket to the project, with bounds on time and size.

use std::{fmt, io, sync::Arc};

use async_trait::async_trait;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as WsError,
        client::IntoClientRequest,
        error::{CapacityError, UrlError},
        handshake::client::Request,
        http::{HeaderValue, header::USER_AGENT},
        protocol::WebSocketConfig,
    },
};

use crate::{
    error::BuildError,
    token::Secret,
    transport::{Endpoint, endpoint::LOCALHOST, tls},
};

/// The longest message that is read. Supabase's own limit for a change is 1 MiB.
pub(super) const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// A connection that bytes go over.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub(super) type Socket = WebSocketStream<Box<dyn Wire>>;

/// Opens connections to the one place that a client talks to.
#[async_trait]
pub(super) trait Dial: Send + Sync {
    /// Opens one, encrypted where the project's URL says so.
    async fn dial(&self) -> io::Result<Box<dyn Wire>>;
}

/// The address of the socket. It holds the API key, so it is a secret.
pub(super) fn url(endpoint: &Endpoint, api_key: &Secret) -> Secret {
    let mut url = endpoint.at("/realtime/v1/websocket", &[]);
    url.query_pairs_mut().append_pair("apikey", api_key.expose()).append_pair("vsn", "1.0.0");
    // The base is http or https.
    Secret::new(url.as_str().replacen("http", "ws", 1))
}

/// Shakes hands over an open connection.
pub(super) async fn open(wire: Box<dyn Wire>, url: &Secret, user_agent: &str) -> Result<Socket, WsError> {
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let (socket, _) = client_async_with_config(request(url, user_agent)?, wire, Some(config)).await?;
    Ok(socket)
}

fn request(url: &Secret, user_agent: &str) -> Result<Request, WsError> {
    let mut request = url.expose().into_client_request()?;
    if let Ok(agent) = HeaderValue::from_str(user_agent) {
        request.headers_mut().insert(USER_AGENT, agent);
    }
    Ok(request)
}

/// Describes a failure without what the server sent and without the URL.
pub(super) fn describe(error: &WsError) -> String {
    match error {
        WsError::Io(error) => error.kind().to_string(),
        WsError::ConnectionClosed | WsError::AlreadyClosed => "the connection was closed".to_owned(),
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            format!("a message of {size} bytes is longer than {max_size}")
        }
        WsError::Capacity(CapacityError::TooManyHeaders) => "the handshake has too many headers".to_owned(),
        WsError::Http(response) => {
            format!("the handshake was answered with HTTP status {}", response.status().as_u16())
        }
        WsError::Url(UrlError::NoHostName) => "the URL has no host".to_owned(),
        WsError::Protocol(error) => error.to_string(),
        _ => "the WebSocket cannot be used".to_owned(),
    }
}

/// TCP, and TLS where the URL is `https`.
pub(super) struct Network {
    host: String,
    port: u16,
    loopback: bool,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Network {
    pub(super) fn new(endpoint: &Endpoint, root: Option<&[u8]>) -> Result<Self, BuildError> {
        let url = endpoint.at("/", &[]);
        let host =
            url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let tls = if endpoint.is_tls() { Some(connector(&host, root)?) } else { None };
        Ok(Self { host, port, loopback: endpoint.is_loopback(), tls })
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        if self.loopback && self.host == "localhost" {
            // No name service decides where the token for this machine goes.
            return TcpStream::connect(
                &LOCALHOST.map(|mut address| {
                    address.set_port(self.port);
                    address
                })[..],
            )
            .await;
        }
        TcpStream::connect((self.host.as_str(), self.port)).await
    }
}

fn connector(host: &str, root: Option<&[u8]>) -> Result<(TlsConnector, ServerName<'static>), BuildError> {
    let mut config: ClientConfig = tls::config(true, root)?;
    // A WebSocket begins as HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| BuildError::Url { problem: "has a host that no certificate can be for".to_owned() })?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

#[async_trait]
impl Dial for Network {
    async fn dial(&self) -> io::Result<Box<dyn Wire>> {
        let tcp = self.connect().await?;
        tcp.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(tcp),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), tcp).await?),
        })
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
