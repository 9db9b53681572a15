//! WebSocket: frames, and channels with a peer that sends any bytes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cri_streaming::protocol::Encoding;
use cri_streaming::websocket::{
    BadFrame, ChannelReader, Decoder, Head, Kind, MAX_MESSAGE, Part, Side, accept_key, encode_head,
    mask, open_channels, split,
};
use cri_streaming::{Outcome, Wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::pieces;

/// What a connection may take to end after its other side has closed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Frames of a client or of a server, however their bytes are cut, and written again.
pub fn frames(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(accept) = accept_key(&text) {
        assert_eq!(accept.len(), 28, "an answer to {text:?}");
    }
    for side in [Side::Client, Side::Server] {
        let read = pieces::same(data, |pieces| {
            let mut decoder = Decoder::new(side);
            let (mut got, mut whole) = (Vec::new(), BytesMut::new());
            for piece in pieces {
                decoder.give(BytesMut::from(piece));
                if let Err(bad) = taken(&mut decoder, &mut whole, &mut got) {
                    return (got, Some(bad));
                }
            }
            (got, None)
        });
        let Some((messages, _)) = read else { continue };
        let mut decoder = Decoder::new(side);
        for (kind, bytes) in messages {
            assert!(bytes.len() <= MAX_MESSAGE && kind != Kind::Continuation, "{kind:?}");
            let (mut wire, mut again) = (BytesMut::new(), Vec::new());
            write(&mut wire, side, kind, &bytes);
            decoder.give(wire);
            let read = taken(&mut decoder, &mut BytesMut::new(), &mut again);
            assert_eq!((read, again), (Ok(()), vec![(kind, bytes)]), "a message changes");
        }
    }
}

/// Takes all that has come; pieces of a message are put together in `whole`.
fn taken(
    decoder: &mut Decoder,
    whole: &mut BytesMut,
    got: &mut Vec<(Kind, Bytes)>,
) -> Result<(), BadFrame> {
    while let Some(part) = decoder.part()? {
        match part {
            Part::Control(kind, bytes) => got.push((kind, bytes)),
            Part::Message { kind, ends, bytes } => {
                whole.extend_from_slice(&bytes);
                if ends {
                    got.push((kind, whole.split().freeze()));
                }
            }
        }
    }
    Ok(())
}

fn write(out: &mut BytesMut, side: Side, kind: Kind, bytes: &[u8]) {
    let key = (side == Side::Client).then_some([1, 2, 3, 4]);
    encode_head(out, &Head { fin: true, kind, mask: key, length: bytes.len() });
    let from = out.len();
    out.extend_from_slice(bytes);
    if let Some(key) = key {
        mask(&mut out[from..], key);
    }
}

/// Channels of a server or of a client, as bits of the first byte say; the peer sends the rest.
pub fn channels(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let side = if first & 1 == 0 { Side::Server } else { Side::Client };
    let encoding = if first & 2 == 0 { Encoding::Binary } else { Encoding::Base64 };
    let has_close = first & 4 == 0;
    pieces::same(data, |pieces| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.unwrap_or_else(|e| panic!("no runtime: {e}"));
        let pieces: Vec<&[u8]> = pieces.collect();
        let met = async {
            tokio::time::timeout(PATIENCE, meet(side, encoding, has_close, &pieces)).await
        };
        match runtime.block_on(met) {
            Ok(heard) => heard,
            Err(_) => panic!("a connection goes on that its peer has closed"),
        }
    });
}

/// What came on each channel, and whether the peer ended as it should.
type Heard = (Vec<Vec<u8>>, bool);

async fn meet(side: Side, encoding: Encoding, has_close: bool, pieces: &[&[u8]]) -> Heard {
    let (peer, ours) = tokio::io::duplex(1 << 20);
    let (mut from_us, mut to_us) = tokio::io::split(peer);
    let listening = tokio::spawn(async move {
        // What is written is read, so that nobody waits for us.
        let mut sink = Vec::new();
        let _ = from_us.read_to_end(&mut sink).await;
    });
    let (receiver, sender) = split(Wire::any(ours), side, PATIENCE * 2, None);
    let numbers = [0, 1, 2, 3, 4];
    let (mut channels, pump) = open_channels(receiver, &numbers, encoding, has_close);
    let readers = numbers.map(|number| channels.remove(&number).map(hear));
    let mut tasks = Vec::new();
    for reader in readers.into_iter().flatten() {
        tasks.push(tokio::spawn(reader));
    }
    let speaking = async {
        for piece in pieces {
            if to_us.write_all(piece).await.is_err() {
                break;
            }
        }
        let _ = to_us.shutdown().await;
    };
    // The pump goes, and the socket with it, once it has ended: who speaks then is not heard.
    let (ended, ()) = tokio::join!(pump, speaking);
    drop(sender);
    let mut heard = Vec::new();
    for task in tasks {
        heard.push(task.await.unwrap_or_else(|e| panic!("a channel's reader: {e}")));
    }
    listening.await.unwrap_or_else(|e| panic!("the peer: {e}"));
    (heard, ended.is_ok())
}

async fn hear(mut channel: ChannelReader) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = channel.receive().await {
        all.extend_from_slice(&bytes);
    }
    all
}

/// What an error channel says at the end.
pub fn status(data: &[u8]) {
    let outcome = Outcome::parse(data);
    match &outcome {
        Outcome::Success | Outcome::ExitCode(_) => {
            let again = Outcome::parse(&outcome.to_json());
            let same = if outcome == Outcome::ExitCode(0) { Outcome::Success } else { outcome };
            assert_eq!(again, same, "an end changes when it is written");
        }
        Outcome::Failed(why) => {
            let again = Outcome::parse(&outcome.to_json());
            assert!(matches!(again, Outcome::Failed(more) if more.ends_with(why.as_str())));
        }
    }
}
