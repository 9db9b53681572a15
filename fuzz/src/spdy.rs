//! SPDY/3.1: frames, header blocks, and a connection with a peer that sends any bytes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cri_streaming::Wire;
use cri_streaming::spdy::{
    Compressor, Connection, Decoder, Decompressor, Frame, Headers, Limits, Over, Role, Stream,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::pieces;

/// What a peer may take to end after its other side has closed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Frames, however their bytes are cut, and written again.
pub fn frames(data: &[u8]) {
    let read = pieces::same(data, |pieces| {
        let mut decoder = Decoder::default();
        let mut got = Vec::new();
        for piece in pieces {
            decoder.give(Bytes::copy_from_slice(piece));
            loop {
                match decoder.take() {
                    Ok(Some(frame)) => add(&mut got, frame),
                    Ok(None) => break,
                    Err(bad) => return (got, Some(bad)),
                }
            }
        }
        (got, None)
    });
    let Some((frames, _)) = read else { return };
    let mut wire = BytesMut::new();
    for frame in &frames {
        frame.encode(&mut wire);
    }
    let mut decoder = Decoder::default();
    decoder.give(wire.freeze());
    let mut again = Vec::new();
    while let Ok(Some(frame)) = decoder.take() {
        add(&mut again, frame);
    }
    let known = frames.into_iter().filter(|frame| !matches!(frame, Frame::Ignored { .. }));
    let mut expected = Vec::new();
    known.for_each(|frame| add(&mut expected, frame));
    assert_eq!(again, expected, "frames change when they are written");
}

/// Pieces of data are put together: where one frame ends and the next begins means nothing.
fn add(all: &mut Vec<Frame>, frame: Frame) {
    match (all.last_mut(), frame) {
        (
            Some(Frame::Data { stream, fin, bytes }),
            Frame::Data { stream: same, fin: end, bytes: more },
        ) if *stream == same && !*fin => {
            *bytes = [&bytes[..], &more[..]].concat().into();
            *fin = end;
        }
        (_, frame) => all.push(frame),
    }
}

/// Header blocks of one connection, one after the other: a byte of length, then so many bytes, or as many as there
/// are. Then the input as headers, written and read.
pub fn headers(data: &[u8]) {
    let mut decompressor = Decompressor::default();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first() {
        let (block, next) = after.split_at(usize::from(*length).min(after.len()));
        rest = if *length == 255 { &[] } else { next };
        let block = if *length == 255 { after } else { block };
        let Ok(headers) = decompressor.headers(block) else { break };
        let size: usize = headers.iter().map(|(name, value)| 8 + name.len() + value.len()).sum();
        assert!(size <= 64 << 10, "{size} bytes of headers");
        round(&headers);
    }
    let text = String::from_utf8_lossy(data);
    let words: Vec<&str> = text.split('\n').collect();
    let pairs = words.chunks_exact(2).map(|p| (p[0].to_ascii_lowercase(), p[1].to_owned()));
    round(&pairs.collect());
}

fn round(headers: &Headers) {
    let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
    for _ in 0..2 {
        let Ok(block) = compressor.block(headers) else { return };
        let again = decompressor.headers(&block);
        assert_eq!(again.as_ref(), Ok(headers), "headers change when they are written");
    }
}

/// What came of a stream: its number and headers, its bytes, and whether the peer ended it.
type Heard = (u32, Headers, Vec<u8>, bool);

/// A connection as server or client, as the first byte says; the peer sends the rest.
pub fn connection(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let role = if first % 2 == 0 { Role::Server } else { Role::Client };
    pieces::same(data, |pieces| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.unwrap_or_else(|e| panic!("no runtime: {e}"));
        let pieces: Vec<&[u8]> = pieces.collect();
        let met = async { tokio::time::timeout(PATIENCE, meet(role, &pieces)).await };
        match runtime.block_on(met) {
            Ok(heard) => heard,
            Err(_) => panic!("a connection goes on that its peer has closed"),
        }
    });
}

async fn meet(role: Role, pieces: &[&[u8]]) -> Vec<Heard> {
    let (peer, ours) = tokio::io::duplex(1 << 20);
    let limits = Limits { streams: 1 << 20, idle: PATIENCE * 2, ping: None };
    let Connection { opener, mut incoming } =
        Connection::start(Over::Wire(Wire::any(ours)), role, limits);
    let (from_us, to_us) = tokio::io::split(peer);
    let listening = tokio::spawn(listen(from_us));
    let mut streams = Vec::new();
    if role == Role::Client {
        for _ in 0..2 {
            let opener = opener.clone();
            streams.push(tokio::spawn(async move {
                match opener.open(vec![("streamtype".to_owned(), "data".to_owned())]).await {
                    Ok(stream) => hear(stream).await,
                    Err(_) => (0, Headers::new(), Vec::new(), false),
                }
            }));
        }
        // Both are opened before the peer answers, or it would be chance what it answers to.
        tokio::task::yield_now().await;
    }
    let speaking = async {
        let mut to_us = to_us;
        for piece in pieces {
            if to_us.write_all(piece).await.is_err() {
                break;
            }
        }
        let _ = to_us.shutdown().await;
    };
    let taking = async {
        while let Some(stream) = incoming.recv().await {
            streams.push(tokio::spawn(hear(stream)));
        }
    };
    tokio::join!(speaking, taking);
    opener.ended().await;
    let mut heard = Vec::new();
    for stream in streams {
        heard.push(stream.await.unwrap_or_else(|e| panic!("a stream's reader: {e}")));
    }
    drop(opener);
    listening.await.unwrap_or_else(|e| panic!("the peer: {e}"));
    heard.sort();
    heard
}

async fn hear(mut stream: Stream) -> Heard {
    let mut bytes = Vec::new();
    let whole = stream.reader.read_to_end(&mut bytes).await.is_ok();
    let _ = stream.writer.write_all(b"heard").await;
    (stream.id, stream.headers, bytes, whole)
}

/// What we write is SPDY to the end, whatever the peer says.
async fn listen(mut from_us: tokio::io::ReadHalf<DuplexStream>) {
    let (mut decoder, mut headers) = (Decoder::default(), Decompressor::default());
    loop {
        let mut chunk = BytesMut::new();
        match from_us.read_buf(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(_) => decoder.give(chunk.freeze()),
        }
        while let Some(frame) = decoder.take().unwrap_or_else(|e| panic!("we wrote {e}")) {
            match frame {
                Frame::SynStream { headers: block, .. }
                | Frame::SynReply { headers: block, .. }
                | Frame::Headers { headers: block, .. } => {
                    headers.headers(&block).unwrap_or_else(|e| panic!("we wrote {e}"));
                }
                Frame::RstStream { .. }
                | Frame::Settings { .. }
                | Frame::Ping { .. }
                | Frame::GoAway { .. }
                | Frame::WindowUpdate { .. }
                | Frame::Data { .. } => {}
                Frame::Ignored { kind } => panic!("we wrote a frame of type {kind}"),
            }
        }
    }
}
