//! The task that writes a connection's frames.

use std::io;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt as _, WriteHalf};
use tokio::sync::mpsc;

use super::connection::{Command, Shared};
use super::frame::Frame;
use super::headers::{BadHeaders, Compressor, Headers};
use super::window::{MORE, OFFERED};

/// Writes until the connection is closed or broken.
pub(super) async fn write_all<S: AsyncWrite>(
    shared: &Shared,
    mut socket: WriteHalf<S>,
    mut commands: mpsc::Receiver<Command>,
) -> io::Result<()> {
    let mut compressor = Compressor::default();
    let mut out = BytesMut::new();
    // Said before anything else, so that a peer that counts does so from the first byte on; others pass it over.
    Frame::Settings { initial_window: Some(OFFERED) }.encode(&mut out);
    Frame::WindowUpdate { stream: 0, delta: MORE }.encode(&mut out);
    socket.write_all_buf(&mut out).await?;
    loop {
        let command = tokio::select! {
            command = commands.recv() => match command {
                Some(command) => command,
                None => return Ok(()),
            },
            () = shared.has_rooms.notified() => {
                for (stream, delta) in shared.take_rooms() {
                    Frame::WindowUpdate { stream, delta }.encode(&mut out);
                }
                socket.write_all_buf(&mut out).await?;
                socket.flush().await?;
                continue;
            }
        };
        let invalid = |e: BadHeaders| io::Error::new(io::ErrorKind::InvalidInput, e);
        match command {
            Command::Encoded(mut bytes) => socket.write_all_buf(&mut bytes).await?,
            Command::Frame(frame) => frame.encode(&mut out),
            Command::Open { stream, headers, fin } => {
                let headers = compressor.block(&headers).map_err(invalid)?;
                Frame::SynStream { stream, fin, headers }.encode(&mut out);
            }
            Command::Reply { stream } => {
                let headers = compressor.block(&Headers::new()).map_err(invalid)?;
                Frame::SynReply { stream, fin: false, headers }.encode(&mut out);
            }
            Command::Close => {
                socket.flush().await?;
                return socket.shutdown().await;
            }
        }
        if !out.is_empty() {
            socket.write_all_buf(&mut out).await?;
            out = BytesMut::new();
        }
        shared.written.fetch_add(1, Ordering::Relaxed);
        if commands.is_empty() {
            socket.flush().await?;
        }
    }
}
