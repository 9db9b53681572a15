//! Port-forward over WebSocket: SPDY in a tunnel, or two channels for each port of a list.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, copy_bidirectional_with_sizes, join};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::forward::{self, connect};
use super::http::Socket;
use super::{PortForward, Runtime, Server};
use crate::protocol::Encoding;
use crate::websocket::{self as ws, ChannelBytes, ChannelReader, ChannelWriter, Side};

const BUFFER: usize = 32 << 10;
/// Ports of one request: two channels each, and a channel is a byte.
const MOST_PORTS: usize = 127;
const NORMAL: u16 = 1000;
/// RFC 6455 section 7.4.1: the request cannot be carried out as it is.
const POLICY: u16 = 1008;

pub(super) async fn tunnelled<R: Runtime>(
    server: &Arc<Server<R>>,
    request: PortForward,
    socket: Socket,
) {
    let (receiver, sender) =
        ws::split(socket, Side::Server, server.limits.idle, server.limits.ping);
    let (inside, pump) = ws::tunnel(receiver, sender);
    let (pumped, ()) = tokio::join!(pump, forward::spdy(server, request, inside));
    if let Err(error) = pumped {
        tracing::debug!(%error, "a tunnelled port-forward");
    }
}

pub(super) async fn ports<R: Runtime>(
    server: &Arc<Server<R>>,
    request: PortForward,
    encoding: Encoding,
    socket: Socket,
) {
    let (receiver, sender) =
        ws::split(socket, Side::Server, server.limits.idle, server.limits.ping);
    if request.ports.is_empty() || request.ports.len() > MOST_PORTS {
        tracing::debug!(
            ports = request.ports.len(),
            "a port-forward without a list of 1 to {MOST_PORTS} ports"
        );
        let _ = sender.close(POLICY).await;
        return;
    }
    let data_channels: Vec<u8> =
        (0..request.ports.len()).filter_map(|i| u8::try_from(2 * i).ok()).collect();
    let (mut channels, pump) = ws::open_channels(receiver, &data_channels, encoding, false);
    let mut reading = tokio::spawn(pump);
    let request = Arc::new(request);
    let mut forwards = JoinSet::new();
    for (channel, port) in data_channels.into_iter().zip(request.ports.clone()) {
        let Some(from_client) = channels.remove(&channel) else { continue };
        let data = ChannelWriter::new(sender.clone(), channel, encoding);
        let error = ChannelWriter::new(sender.clone(), channel + 1, encoding);
        forwards.spawn(one_port(
            Arc::clone(server),
            Arc::clone(&request),
            port,
            from_client,
            data,
            error,
        ));
    }
    loop {
        tokio::select! {
            done = forwards.join_next() => {
                if done.is_none() {
                    break;
                }
            }
            _ = &mut reading => return,
        }
    }
    if sender.close(NORMAL).await.is_ok() {
        let _ = timeout(Duration::from_secs(5), &mut reading).await;
    }
    reading.abort();
}

async fn one_port<R: Runtime>(
    server: Arc<Server<R>>,
    request: Arc<PortForward>,
    port: u16,
    from_client: ChannelReader,
    data: ChannelWriter<Socket>,
    error: ChannelWriter<Socket>,
) {
    let forwarded = async {
        // Both channels begin by saying which port they are.
        data.send(&port.to_le_bytes()).await?;
        error.send(&port.to_le_bytes()).await?;
        let mut socket = match connect(&server, &request, port).await {
            Ok(socket) => socket,
            Err(failure) => return error.send(failure.as_bytes()).await,
        };
        let (output, pump) = data.output();
        let mut client = join(ChannelBytes::new(from_client), output);
        let copy = async {
            let copied =
                copy_bidirectional_with_sizes(&mut client, &mut socket, BUFFER, BUFFER).await;
            client.shutdown().await?;
            drop(client);
            copied
        };
        let (copied, pumped) = tokio::join!(copy, pump);
        pumped?;
        // A connection that is reset is none that could not be made.
        copied.map(|_| ())
    };
    let forwarded: io::Result<()> = forwarded.await;
    if let Err(error) = forwarded {
        tracing::debug!(%error, port, "a port-forward's client");
    }
}
