//! From a URL to an upgraded connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::websocket::{accept_key, new_key};
use crate::wire::Wire;

const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest refusal that is read.
const LONGEST: usize = 64 << 10;

/// What carries the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket, what clients of today use.
    WebSocket,
    /// WebSocket in version 5 alone, the first by which the end of the input can be told; kubectl asks for this, and
    /// where it is refused for SPDY.
    WebSocketV5,
    /// SPDY/3.1, what every runtime speaks.
    Spdy,
}

/// How servers with `https` URLs are trusted.
#[derive(Debug, Clone)]
pub struct ClientTls(pub Arc<ClientConfig>);

/// A server that cannot be reached or will not serve.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is none that can be used.
    #[error("the URL of the stream cannot be used: {0}")]
    Url(String),
    /// It cannot be reached, or stops talking.
    #[error("cannot talk to the streaming server at {authority}")]
    Unreachable {
        /// Where.
        authority: String,
        /// Why.
        source: io::Error,
    },
    /// It refuses.
    #[error("the streaming server refuses ({status}): {message}")]
    Refused {
        /// HTTP's status.
        status: StatusCode,
        /// What it says.
        message: String,
    },
    /// It speaks a protocol that was not asked for.
    #[error("the streaming server answers with the protocol {0:?}, which was not asked for")]
    Protocol(String),
}

/// Upgrades the connection to `url`; returns it with the protocol that the server has chosen.
pub(super) async fn upgrade(
    url: &str,
    transport: Transport,
    protocols: &[&str],
    tls: Option<&ClientTls>,
) -> Result<(Wire, String), ClientError> {
    let uri: Uri =
        url.parse().map_err(|e: http::uri::InvalidUri| ClientError::Url(e.to_string()))?;
    let authority =
        uri.authority().ok_or_else(|| ClientError::Url("it names no host".to_owned()))?.clone();
    let unreachable =
        |source| ClientError::Unreachable { authority: authority.to_string(), source };
    let is_tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        Some(_) | None => return Err(ClientError::Url("it is neither http nor https".to_owned())),
    };
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let work = async {
        let socket = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
        let _ = socket.set_nodelay(true);
        if !is_tls {
            return request(TokioIo::new(socket), &uri, transport, protocols, &unreachable).await;
        }
        let tls =
            tls.ok_or_else(|| ClientError::Url("it is https, and no trust is set up".to_owned()))?;
        let name = ServerName::try_from(host).map_err(|e| ClientError::Url(e.to_string()))?;
        let connector = TlsConnector::from(Arc::clone(&tls.0));
        let socket = connector.connect(name, socket).await.map_err(unreachable)?;
        request(TokioIo::new(socket), &uri, transport, protocols, &unreachable).await
    };
    let timed_out = || unreachable(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
    tokio::time::timeout(TIMEOUT, work).await.map_err(|_| timed_out())?
}

async fn request<S>(
    socket: TokioIo<S>,
    uri: &Uri,
    transport: Transport,
    protocols: &[&str],
    unreachable: &impl Fn(io::Error) -> ClientError,
) -> Result<(Wire, String), ClientError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let broken = |e: hyper::Error| unreachable(io::Error::other(e));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(socket).await.map_err(broken)?;
    tokio::spawn(async move {
        // Its errors reach whoever waits for the response.
        let _ = connection.with_upgrades().await;
    });
    let key = new_key().map_err(|e| unreachable(io::Error::other(e)))?;
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let method = if transport == Transport::Spdy { Method::POST } else { Method::GET };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() =
        path.parse().map_err(|e: http::uri::InvalidUri| ClientError::Url(e.to_string()))?;
    *request.headers_mut() = headers(uri, transport, protocols, &key)?;
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        let message = body
            .map(|b| String::from_utf8_lossy(&b.to_bytes()).trim().to_owned())
            .unwrap_or_default();
        return Err(ClientError::Refused { status, message });
    }
    let header =
        |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if transport != Transport::Spdy
        && Some(header("sec-websocket-accept")) != accept_key(&key).ok().as_deref()
    {
        return Err(ClientError::Protocol("no WebSocket".to_owned()));
    }
    let chosen = match transport {
        Transport::WebSocket | Transport::WebSocketV5 => {
            header("sec-websocket-protocol").to_owned()
        }
        Transport::Spdy => header(PROTOCOL.as_str()).to_owned(),
    };
    if !chosen.is_empty() && !protocols.contains(&chosen.as_str()) {
        return Err(ClientError::Protocol(chosen));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
    Ok((Wire::upgraded(upgraded), chosen))
}

fn headers(
    uri: &Uri,
    transport: Transport,
    protocols: &[&str],
    key: &str,
) -> Result<HeaderMap, ClientError> {
    let value =
        |text: &str| HeaderValue::from_str(text).map_err(|e| ClientError::Url(e.to_string()));
    let host = uri.authority().map(|a| a.as_str()).unwrap_or_default();
    let mut headers = HeaderMap::from_iter([
        (HOST, value(host)?),
        (CONNECTION, HeaderValue::from_static("Upgrade")),
    ]);
    match transport {
        Transport::Spdy => {
            headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            for protocol in protocols {
                headers.append(PROTOCOL, value(protocol)?);
            }
        }
        Transport::WebSocket | Transport::WebSocketV5 => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
            headers.insert("sec-websocket-key", value(key)?);
            headers.insert("sec-websocket-protocol", value(&protocols.join(", "))?);
        }
    }
    Ok(headers)
}
