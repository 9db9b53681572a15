//! `isopod port-forward`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cri_api::v1::PortForwardRequest;
use cri_streaming::client::{ClientTls, Forwarder};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::failure::{Doing, Failure, Outcome};
use super::find;
use super::node::Node;
use super::{print, stream};

/// Connections at once; one more waits in the kernel's queue.
const CONNECTIONS: usize = 256;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Accept connections on this address of this machine
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    address: IpAddr,
    #[command(flatten)]
    stream: stream::Options,
    /// A name, an id, or the beginning of one
    pod: String,
    /// PORT, LOCAL:REMOTE, or :REMOTE for any free local port
    #[arg(required = true, value_parser = parse, value_name = "PORTS")]
    ports: Vec<Ports>,
}

/// A port of this machine and one of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    local: u16,
    remote: u16,
}

fn parse(text: &str) -> Result<Ports, String> {
    let wrong = || "give PORT, LOCAL:REMOTE or :REMOTE".to_owned();
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    match text.split_once(':') {
        None => port(text).map(|port| Ports { local: port, remote: port }),
        Some(("", remote)) => Ok(Ports { local: 0, remote: port(remote)? }),
        Some((local, remote)) => Ok(Ports { local: port(local)?, remote: port(remote)? }),
    }
}

/// Connects ports of this machine with ports of the pod, until it is interrupted.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let doing = format!("forward ports of pod {}", args.pod);
    let pod_sandbox_id = find::sandbox(node, &args.pod).await?.id;
    let mut listeners = Vec::new();
    for ports in &args.ports {
        let address = SocketAddr::new(args.address, ports.local);
        let listener = TcpListener::bind(address).await;
        let listener = listener.doing(format!("listen on {address}"))?;
        listeners.push((listener, ports.remote));
    }
    let port = args.ports.iter().map(|ports| ports.remote.into()).collect();
    let request = PortForwardRequest { pod_sandbox_id, port };
    let url = async || {
        Ok(node.runtime().port_forward(request.clone()).await.doing(&doing)?.into_inner().url)
    };
    let connect = async |url: String, transport, tls: Option<ClientTls>| {
        Forwarder::connect(&url, transport, tls.as_ref()).await
    };
    let forwarder = args.stream.connect(&doing, url, connect).await?;
    let mut interrupted = signal(SignalKind::interrupt()).doing(&doing)?;
    let mut terminated = signal(SignalKind::terminate()).doing(&doing)?;
    for (listener, remote) in &listeners {
        let local = listener.local_addr().doing(&doing)?;
        print::line(&format!("Forwarding from {local} to {remote}"))?;
    }
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    for (listener, remote) in listeners {
        tokio::spawn(accept(listener, remote, forwarder.clone(), Arc::clone(&permits)));
    }
    tokio::select! {
        () = forwarder.ended() => {
            Err(Failure::new(doing, "the runtime has ended the connection")
                .advise("the pod or the runtime's daemon is gone; start it again"))
        }
        _ = interrupted.recv() => Ok(130),
        _ = terminated.recv() => Ok(143),
    }
}

async fn accept(listener: TcpListener, remote: u16, forwarder: Forwarder, permits: Arc<Semaphore>) {
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (mut socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                print::aside(&format!(
                    "cannot accept a connection: {}",
                    model::with_causes(&error)
                ));
                // Descriptors may have run out; whoever holds them needs a moment to let go.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = socket.set_nodelay(true);
        let forwarder = forwarder.clone();
        tokio::spawn(async move {
            if let Err(error) = forwarder.forward(&mut socket, remote).await {
                // A plain end would make what has come look like all there is.
                let _ = socket.set_zero_linger();
                print::aside(&format!("connection from {peer}: {}", model::with_causes(&error)));
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_kubectl_reads_them() {
        let ports = |local, remote| Ok(Ports { local, remote });
        assert_eq!(parse("80"), ports(80, 80));
        assert_eq!(parse("8080:80"), ports(8080, 80));
        assert_eq!(parse(":80"), ports(0, 80));
        for bad in ["", "0", "x", "80:", "0:80", "70000", "1:2:3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
