//! The server that exec, attach and port-forward go over.
//!
//! Owns: its address and its certificates. Always: it listens before the CRI socket is served, so a URL
//! that was given out can be used at once; it ends with the daemon, and containers go on.
//! Callers: `serve`.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cri_server::Carrier;
use cri_streaming::Server;
use cri_streaming::server::{Limits, Tls};
use pods::Pods;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::StreamingSettings;

/// Longer than any node is up: tokio has no "never".
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Starts to serve streams of `pods`, until `stop`.
pub async fn start(
    settings: &StreamingSettings,
    pods: Pods,
    stop: CancellationToken,
) -> Result<Arc<Server<Carrier>>, Box<dyn Error>> {
    let address = settings.address;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address} (streaming.address): {error}"))?;
    let tls = settings
        .tls
        .as_ref()
        .map(|(certificate, key)| Tls::from_files(certificate, key))
        .transpose()?;
    let base = base_url(listener.local_addr()?, tls.is_some());
    let limits = Limits {
        connections: settings.connections,
        idle: settings.idle.unwrap_or(FOR_EVER),
        ..Limits::default()
    };
    tracing::info!(url = base, "serving streams");
    let server = cri_server::streams(pods, base, limits);
    tokio::spawn(Arc::clone(&server).serve(listener, tls, stop));
    Ok(server)
}

/// What URLs begin with. Whoever gets one has asked on a socket of this machine, so an address that stands
/// for all of its own is reached over loopback.
fn base_url(mut address: SocketAddr, tls: bool) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_can_be_reached_from_this_machine() {
        for (address, tls, want) in [
            ("127.0.0.1:80", false, "http://127.0.0.1:80"),
            ("0.0.0.0:80", true, "https://127.0.0.1:80"),
            ("[::]:80", false, "http://[::1]:80"),
            ("[fd00::1]:80", false, "http://[fd00::1]:80"),
        ] {
            assert_eq!(base_url(address.parse().unwrap(), tls), want);
        }
    }
}
