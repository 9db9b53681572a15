//! Port-forward over WebSocket: SPDY in a tunnel, or two channels for each port of a list.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::carry::Output;
use super::forward::{self, connect};
use super::port::{self, FromClient};
use super::{Forward, Runtime, Server};
use crate::protocol::Encoding;
use crate::spdy::Over;
use crate::websocket::{self as ws, ChannelReader, ChannelWriter, Side};
use crate::wire::Wire;

/// Ports of one request: two channels each, and a channel is a byte.
const MOST_PORTS: usize = 127;
const NORMAL: u16 = 1000;
/// RFC 6455 section 7.4.1: the request cannot be carried out as it is.
const POLICY: u16 = 1008;

pub(super) async fn tunnelled<R: Runtime>(server: &Arc<Server<R>>, request: Forward, wire: Wire) {
    let (receiver, sender) = ws::split(wire, Side::Server, server.limits.idle, server.limits.ping);
    forward::spdy(server, request, Over::WebSocket(receiver, sender)).await;
}

pub(super) async fn ports<R: Runtime>(
    server: &Arc<Server<R>>,
    request: Forward,
    encoding: Encoding,
    wire: Wire,
) {
    let (receiver, sender) = ws::split(wire, Side::Server, server.limits.idle, server.limits.ping);
    let asked = &request.asked;
    if asked.ports.is_empty() || asked.ports.len() > MOST_PORTS {
        tracing::debug!(
            ports = asked.ports.len(),
            "a port-forward without a list of 1 to {MOST_PORTS} ports"
        );
        let _ = sender.close(POLICY).await;
        return;
    }
    let data_channels: Vec<u8> =
        (0..asked.ports.len()).filter_map(|i| u8::try_from(2 * i).ok()).collect();
    let (mut channels, pump) = ws::open_channels(receiver, &data_channels, encoding, false);
    let mut reading = tokio::spawn(pump);
    let ports = asked.ports.clone();
    let request = Arc::new(request);
    let mut forwards = JoinSet::new();
    for (channel, port) in data_channels.into_iter().zip(ports) {
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
    request: Arc<Forward>,
    port: u16,
    from_client: ChannelReader,
    data: ChannelWriter,
    error: ChannelWriter,
) {
    let forwarded = async {
        // Both channels begin by saying which port they are.
        data.send(&port.to_le_bytes()).await?;
        error.send(&port.to_le_bytes()).await?;
        let socket = match connect(&server, &request, port).await {
            Ok(socket) => socket,
            Err(failure) => return error.send(failure.as_bytes()).await,
        };
        let (output, pump) = data.output();
        let from = FromClient::WebSocket(from_client);
        let (copied, pumped) =
            tokio::join!(port::connect(socket, from, Output::websocket(output)), pump);
        pumped?;
        copied
    };
    let forwarded: io::Result<()> = forwarded.await;
    if let Err(error) = forwarded {
        tracing::debug!(%error, port, "a port-forward's client");
    }
}
