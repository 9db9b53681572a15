//! Images put into a registry of somebody else's (OCI distribution specification, push).

use std::io;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, LOCATION};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::image::Image;
use super::layer::Blob;

/// The longest refusal that is read.
const LONGEST: usize = 64 << 10;

/// Puts an image under a tag of a registry that speaks plain HTTP at `host`.
pub(crate) async fn push(host: &str, image: &Image, repository: &str, tag: &str) -> io::Result<()> {
    let config = image.config();
    for blob in image.layers.iter().chain([&config]) {
        push_blob(host, blob, repository).await?;
    }
    let manifest = image.manifest();
    let path = format!("/v2/{repository}/manifests/{tag}");
    let (status, _) = send(host, "PUT", &path, &manifest.media_type, manifest.bytes).await?;
    is(status, StatusCode::CREATED, "take a manifest")
}

async fn push_blob(host: &str, blob: &Blob, repository: &str) -> io::Result<()> {
    let path = format!("/v2/{repository}/blobs/uploads/");
    let octets = "application/octet-stream";
    let (status, place) = send(host, "POST", &path, octets, Bytes::new()).await?;
    is(status, StatusCode::ACCEPTED, "begin an upload")?;
    // Absolute or not, with a query of its own or not.
    let path = match place.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
        None => place,
    };
    let mark = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{mark}digest={}", blob.digest);
    let (status, _) = send(host, "PUT", &path, octets, blob.bytes.clone()).await?;
    is(status, StatusCode::CREATED, "take a blob")
}

fn is(found: StatusCode, wanted: StatusCode, what: &str) -> io::Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(io::Error::other(format!("the registry does not {what}: it answers {found}")))
}

/// One request with a connection of its own; the answer's status and Location.
async fn send(
    host: &str,
    method: &str,
    path: &str,
    kind: &str,
    body: Bytes,
) -> io::Result<(StatusCode, String)> {
    let socket = TcpStream::connect(host).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .map_err(io::Error::other)?;
    // What breaks it reaches whoever waits for the answer.
    let driving = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, kind)
        .body(Full::new(body))
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let place = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let (status, place) = (answer.status(), place.unwrap_or_default().to_owned());
    // Read, so that the connection ends in order.
    let _ = Limited::new(answer.into_body(), LONGEST).collect().await;
    drop(sender);
    driving.abort();
    Ok((status, place))
}
