//! Where metrics are read: `GET /metrics`, HTTP/1.1.
//!
//! Always: a reader has a bound in time and in number; nothing else is served, and nothing is read of a
//! request but its head.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::View;
use crate::config::{MetricsAddress, SocketSettings};
use crate::daemon::socket;

/// Readers at once; more wait in the kernel's queue.
const READERS: usize = 8;
/// How long a request's head may take, and the whole of a reader's visit.
const HEAD: Duration = Duration::from_secs(5);
const VISIT: Duration = Duration::from_secs(30);
/// After an accept that failed.
const AGAIN: Duration = Duration::from_millis(100);
/// The text exposition format of Prometheus.
const TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Listens at `address`, and serves from now on until `stop`.
pub async fn serve(
    address: &MetricsAddress,
    view: View,
    stop: CancellationToken,
) -> Result<(), Box<dyn Error>> {
    match address {
        MetricsAddress::Tcp(address) => {
            let listener = TcpListener::bind(address).await.map_err(|error| {
                format!("cannot listen on {address} (metrics.address): {error}")
            })?;
            tracing::info!(address = %listener.local_addr()?, "serving metrics");
            tokio::spawn(stop.run_until_cancelled_owned(async move {
                let readers = Arc::new(Semaphore::new(READERS));
                loop {
                    let place = readers.clone().acquire_owned().await;
                    match listener.accept().await {
                        Ok((stream, _)) => spawn(stream, view.clone(), place),
                        Err(error) => failed(&error).await,
                    }
                }
            }));
        }
        MetricsAddress::Unix(path) => {
            if let Some(directory) = path.parent().filter(|directory| !directory.is_dir()) {
                let (directory, path) = (directory.display(), path.display());
                return Err(
                    format!("metrics.address {path}: there is no directory {directory}").into()
                );
            }
            let settings = SocketSettings { path: path.clone(), mode: 0o660, group: None };
            let bound = socket::bind(&settings)?;
            let listener = bound.incoming()?;
            tokio::spawn(stop.run_until_cancelled_owned(async move {
                let _bound = bound;
                let readers = Arc::new(Semaphore::new(READERS));
                loop {
                    let place = readers.clone().acquire_owned().await;
                    match listener.accept().await {
                        Ok((stream, _)) => spawn(stream, view.clone(), place),
                        Err(error) => failed(&error).await,
                    }
                }
            }));
        }
    }
    Ok(())
}

async fn failed(error: &std::io::Error) {
    tracing::warn!(%error, "cannot accept a reader of metrics");
    tokio::time::sleep(AGAIN).await;
}

/// One reader, which holds `place` while it is there.
fn spawn<S, P>(stream: S, view: View, place: P)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    P: Send + 'static,
{
    tokio::spawn(async move {
        let _place = place;
        let answers = service_fn(move |request: Request<Incoming>| {
            let view = view.clone();
            async move { Ok::<_, Infallible>(answer(&request, &view).await) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(16 << 10);
        let visit = server.serve_connection(TokioIo::new(stream), answers);
        if let Ok(Err(error)) = tokio::time::timeout(VISIT, visit).await {
            tracing::debug!(%error, "a reader of metrics");
        }
    });
}

async fn answer(request: &Request<Incoming>, view: &View) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, view.text().await),
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, "only GET is served\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TYPE);
    response
}
