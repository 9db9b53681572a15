//! From an HTTP request to an upgraded connection, or to a refusal that says why.

use std::pin::Pin;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::{Method, StatusCode};
use tokio::sync::mpsc;

use super::{Request, Runtime, Server, forward, forward_websocket, remote};
use crate::protocol::{
    Encoding, PORT_FORWARD, RemoteCommand, TUNNELLED_PORT_FORWARD, WEBSOCKET_PORT_LIST,
    WEBSOCKET_REMOTE_COMMAND, choose, names_in,
};
use crate::spdy::Over;
use crate::websocket::accept_key;
use crate::wire::Wire;

const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const SEC_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const SEC_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const SEC_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
const SEC_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");

/// What is done with a connection once it is upgraded.
pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
type Response = hyper::Response<Full<Bytes>>;

/// The first part of a URL's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Exec,
    Attach,
    PortForward,
}

/// What both sides will speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    SpdyRemote(RemoteCommand),
    SpdyForward,
    WebSocketRemote(RemoteCommand, Encoding),
    WebSocketPorts(Encoding),
    WebSocketTunnel,
}

/// A negotiation that has succeeded: what is spoken, and what the response says of it.
struct Agreed {
    spoken: Spoken,
    headers: HeaderMap,
}

/// Answers a request; what comes after an upgrade is sent to `after`.
pub(super) fn answer<R: Runtime>(
    server: &Arc<Server<R>>,
    mut request: hyper::Request<Incoming>,
    after: &mpsc::Sender<Work>,
) -> Response {
    let Some((kind, token)) = route(request.uri().path()) else {
        return refuse(StatusCode::NOT_FOUND, "no such path".to_owned());
    };
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and POST are served here".to_owned(),
        );
    }
    let token = token.to_owned();
    let agreed = match negotiate(kind, request.headers()) {
        Ok(agreed) => agreed,
        Err(response) => return *response,
    };
    // The token is taken last: a request that is refused has not used it up.
    let Some((asked, caller)) = server.take(kind, &token) else {
        let message = "this URL has been used, has lapsed, or was never given out";
        return refuse(StatusCode::NOT_FOUND, message.to_owned());
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let server = Arc::clone(server);
    let spoken = agreed.spoken;
    let work = Box::pin(async move {
        match upgrade.await {
            Ok(upgraded) => {
                // On the heap: it is large, and would be in each future around it.
                let work = Box::pin(speak(&server, spoken, asked, Wire::upgraded(upgraded)));
                server.runtime.for_caller(caller, work).await;
            }
            Err(error) => tracing::debug!(%error, "a streaming client left before the upgrade"),
        }
    });
    if after.try_send(work).is_err() {
        return refuse(StatusCode::BAD_REQUEST, "one upgrade a connection".to_owned());
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = agreed.headers;
    response
}

async fn speak<R: Runtime>(server: &Arc<Server<R>>, spoken: Spoken, asked: Request, wire: Wire) {
    match (spoken, asked) {
        (Spoken::SpdyRemote(version), asked @ (Request::Exec(_) | Request::Attach(_))) => {
            remote::spdy(server, version, asked, wire).await;
        }
        (
            Spoken::WebSocketRemote(version, encoding),
            asked @ (Request::Exec(_) | Request::Attach(_)),
        ) => {
            remote::websocket(server, version, encoding, asked, wire).await;
        }
        (Spoken::SpdyForward, Request::PortForward(asked)) => {
            forward::spdy(server, asked, Over::Wire(wire)).await;
        }
        (Spoken::WebSocketTunnel, Request::PortForward(asked)) => {
            forward_websocket::tunnelled(server, asked, wire).await;
        }
        (Spoken::WebSocketPorts(encoding), Request::PortForward(asked)) => {
            forward_websocket::ports(server, asked, encoding, wire).await;
        }
        (Spoken::SpdyRemote(_) | Spoken::WebSocketRemote(..), Request::PortForward(_))
        | (
            Spoken::SpdyForward | Spoken::WebSocketTunnel | Spoken::WebSocketPorts(_),
            Request::Exec(_) | Request::Attach(_),
        ) => tracing::error!("a protocol was agreed on that does not belong to the request"),
    }
}

fn route(path: &str) -> Option<(Kind, &str)> {
    let (kind, token) = path.strip_prefix('/')?.split_once('/')?;
    let kind = match kind {
        "exec" => Kind::Exec,
        "attach" => Kind::Attach,
        "portforward" => Kind::PortForward,
        _ => return None,
    };
    Some((kind, token))
}

fn refuse(status: StatusCode, message: String) -> Response {
    let mut response = Response::new(Full::from(format!("{message}\n")));
    *response.status_mut() = status;
    response
}

fn values<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<&'h str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    names_in(values(headers, name)).iter().any(|name| name.eq_ignore_ascii_case(wanted))
}

fn negotiate(kind: Kind, headers: &HeaderMap) -> Result<Agreed, Box<Response>> {
    if !has_token(headers, &CONNECTION, "upgrade") {
        let message = "unable to upgrade: the request has no header Connection: Upgrade";
        return Err(Box::new(refuse(StatusCode::BAD_REQUEST, message.to_owned())));
    }
    if has_token(headers, &UPGRADE, "websocket") {
        return websocket(kind, headers);
    }
    if has_token(headers, &UPGRADE, "SPDY/3.1") {
        return spdy(kind, headers);
    }
    let message = "unable to upgrade: the header Upgrade names neither SPDY/3.1 nor websocket";
    Err(Box::new(refuse(StatusCode::BAD_REQUEST, message.to_owned())))
}

fn spdy(kind: Kind, headers: &HeaderMap) -> Result<Agreed, Box<Response>> {
    let client = names_in(values(headers, &PROTOCOL));
    let known: Vec<&str> = match kind {
        Kind::Exec | Kind::Attach => {
            RemoteCommand::ALL.iter().map(|version| version.name()).collect()
        }
        Kind::PortForward => vec![PORT_FORWARD],
    };
    let chosen = choose(&client, &known);
    if chosen.is_none() && !client.is_empty() {
        return Err(Box::new(no_protocol(&client, &known)));
    }
    let spoken = match kind {
        Kind::Exec | Kind::Attach => {
            // Clients from before there were versions name none; they speak the first.
            let version =
                RemoteCommand::ALL.into_iter().find(|version| Some(version.name()) == chosen);
            Spoken::SpdyRemote(version.unwrap_or(RemoteCommand::V1))
        }
        Kind::PortForward => Spoken::SpdyForward,
    };
    let mut agreed = upgrade_to("SPDY/3.1");
    if let Some(value) = chosen.and_then(|name| HeaderValue::from_str(name).ok()) {
        agreed.insert(PROTOCOL, value);
    }
    Ok(Agreed { spoken, headers: agreed })
}

fn websocket(kind: Kind, headers: &HeaderMap) -> Result<Agreed, Box<Response>> {
    let bad = |message: String| Box::new(refuse(StatusCode::BAD_REQUEST, message));
    let accept = values(headers, &SEC_KEY).first().map(|key| accept_key(key));
    let accept = match accept {
        Some(Ok(accept)) => accept,
        Some(Err(error)) => return Err(bad(error.to_string())),
        None => return Err(bad("the request has no header Sec-WebSocket-Key".to_owned())),
    };
    if values(headers, &SEC_VERSION).first() != Some(&"13") {
        let mut response =
            refuse(StatusCode::UPGRADE_REQUIRED, "only WebSocket version 13 is spoken".to_owned());
        response.headers_mut().insert(SEC_VERSION, HeaderValue::from_static("13"));
        return Err(Box::new(response));
    }
    let client = names_in(values(headers, &SEC_PROTOCOL));
    let known: Vec<&str> = match kind {
        Kind::Exec | Kind::Attach => {
            WEBSOCKET_REMOTE_COMMAND.iter().map(|(name, ..)| *name).collect()
        }
        Kind::PortForward => [TUNNELLED_PORT_FORWARD]
            .into_iter()
            .chain(WEBSOCKET_PORT_LIST.iter().map(|(name, _)| *name))
            .collect(),
    };
    let chosen = choose(&client, &known);
    if chosen.is_none() && !client.is_empty() {
        return Err(Box::new(no_protocol(&client, &known)));
    }
    let spoken = match kind {
        Kind::Exec | Kind::Attach => {
            let found = WEBSOCKET_REMOTE_COMMAND.iter().find(|(name, ..)| Some(*name) == chosen);
            let (version, encoding) =
                found.map_or((RemoteCommand::V1, Encoding::Binary), |(_, v, e)| (*v, *e));
            Spoken::WebSocketRemote(version, encoding)
        }
        Kind::PortForward if chosen == Some(TUNNELLED_PORT_FORWARD) => Spoken::WebSocketTunnel,
        Kind::PortForward => {
            let found = WEBSOCKET_PORT_LIST.iter().find(|(name, _)| Some(*name) == chosen);
            Spoken::WebSocketPorts(found.map_or(Encoding::Binary, |(_, encoding)| *encoding))
        }
    };
    let mut agreed = upgrade_to("websocket");
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        agreed.insert(SEC_ACCEPT, accept);
    }
    if let Some(value) = chosen.and_then(|name| HeaderValue::from_str(name).ok()) {
        agreed.insert(SEC_PROTOCOL, value);
    }
    Ok(Agreed { spoken, headers: agreed })
}

fn upgrade_to(name: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static(name)),
    ])
}

fn no_protocol(client: &[String], known: &[&str]) -> Response {
    let message = format!(
        "unable to upgrade: unable to negotiate protocol: client supports {client:?}, server accepts {known:?}"
    );
    let mut response = refuse(StatusCode::FORBIDDEN, message);
    for name in known {
        if let Ok(value) = HeaderValue::from_str(name) {
            response.headers_mut().append(ACCEPTED, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn both_sides_agree_on_the_clients_first_choice_that_the_server_knows() {
        const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let spdy = |names: &str| {
            headers(&[
                ("connection", "Upgrade"),
                ("upgrade", "SPDY/3.1"),
                ("x-stream-protocol-version", names),
            ])
        };
        let websocket = |names: &str| {
            headers(&[
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", "websocket"),
                KEY,
                ("sec-websocket-version", "13"),
                ("sec-websocket-protocol", names),
            ])
        };
        use Kind::{Exec, PortForward};
        for (kind, headers, expected) in [
            (
                Exec,
                spdy("v5.channel.k8s.io, v4.channel.k8s.io"),
                Spoken::SpdyRemote(RemoteCommand::V5),
            ),
            (Exec, spdy("v2.channel.k8s.io"), Spoken::SpdyRemote(RemoteCommand::V2)),
            (Exec, spdy(""), Spoken::SpdyRemote(RemoteCommand::V1)),
            (PortForward, spdy("portforward.k8s.io"), Spoken::SpdyForward),
            (
                Exec,
                websocket("v5.channel.k8s.io"),
                Spoken::WebSocketRemote(RemoteCommand::V5, Encoding::Binary),
            ),
            (
                Exec,
                websocket("v4.base64.channel.k8s.io"),
                Spoken::WebSocketRemote(RemoteCommand::V4, Encoding::Base64),
            ),
            (PortForward, websocket("SPDY/3.1+portforward.k8s.io"), Spoken::WebSocketTunnel),
            (PortForward, websocket("v4.channel.k8s.io"), Spoken::WebSocketPorts(Encoding::Binary)),
        ] {
            assert_eq!(
                negotiate(kind, &headers).unwrap_or_else(|_| panic!("{expected:?}")).spoken,
                expected
            );
        }
    }

    #[test]
    fn a_client_that_speaks_nothing_known_is_told_what_is_spoken() {
        let asked = headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v9.channel.k8s.io"),
        ]);
        let Err(response) = negotiate(Kind::Exec, &asked) else { panic!("it was accepted") };
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers().get_all(ACCEPTED).iter().count(), 5);
        for (pairs, status) in [
            (&[("upgrade", "SPDY/3.1")][..], StatusCode::BAD_REQUEST),
            (&[("connection", "Upgrade"), ("upgrade", "h2c")], StatusCode::BAD_REQUEST),
            (&[("connection", "Upgrade"), ("upgrade", "websocket")], StatusCode::BAD_REQUEST),
        ] {
            let Err(response) = negotiate(Kind::Exec, &headers(pairs)) else { panic!("{pairs:?}") };
            assert_eq!(response.status(), status);
        }
    }

    #[test]
    fn paths_name_a_kind_and_a_token() {
        assert_eq!(route("/exec/abc"), Some((Kind::Exec, "abc")));
        assert_eq!(route("/portforward/x"), Some((Kind::PortForward, "x")));
        for bad in ["/", "/exec", "/other/x", "exec/x"] {
            assert_eq!(route(bad), None);
        }
    }
}
