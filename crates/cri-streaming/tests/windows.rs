//! What a peer that counts is told of room: as much as was read, and more where a client's reader keeps up.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bytes::{Bytes, BytesMut};
use cri_streaming::Wire;
use cri_streaming::spdy::{
    Compressor, Connection, Decoder, Frame, Limits, Over, Reader, Role, Stream,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

const KIB: usize = 1 << 10;
/// What a stream begins with.
const OFFERED: usize = 512 * KIB;
/// A frame whose bytes are kept as they came.
const LARGE: usize = 16 * KIB;

/// Speaks frames, and no more.
struct Peer {
    socket: DuplexStream,
    decoder: Decoder,
    compressor: Compressor,
}

impl Peer {
    async fn say(&mut self, frame: &Frame) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        self.socket.write_all(&out).await.unwrap();
    }

    async fn hears(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.decoder.take().unwrap() {
                return frame;
            }
            let mut chunk = BytesMut::new();
            assert!(self.socket.read_buf(&mut chunk).await.unwrap() > 0);
            self.decoder.give(chunk.freeze());
        }
    }

    /// Sends `count` bytes in frames of `each`, and returns when all of them have been dealt out.
    async fn sends(&mut self, stream: u32, count: usize, each: usize, ping: u32) {
        let bytes = Bytes::from(vec![7; each]);
        let mut out = BytesMut::new();
        for _ in 0..count / each {
            Frame::Data { stream, fin: false, bytes: bytes.clone() }.encode(&mut out);
        }
        self.socket.write_all(&out).await.unwrap();
        self.say(&Frame::Ping { id: ping }).await;
        while self.hears().await != (Frame::Ping { id: ping }) {}
    }

    /// How much room it is told of.
    async fn is_told(&mut self, stream: u32) -> usize {
        loop {
            if let Frame::WindowUpdate { stream: on, delta } = self.hears().await
                && on == stream
            {
                return delta as usize;
            }
        }
    }
}

/// A peer and what it has opened, or has had opened.
async fn joined(role: Role) -> (Peer, Connection, Stream) {
    let (socket, ours) = duplex(1 << 20);
    let limits = Limits { ping: None, ..Limits::default() };
    let mut connection = Connection::start(Over::Wire(Wire::any(ours)), role, limits);
    let (decoder, compressor) = Default::default();
    let mut peer = Peer { socket, decoder, compressor };
    let headers = peer.compressor.block(&vec![]).unwrap();
    let stream = match role {
        Role::Server => {
            peer.say(&Frame::SynStream { stream: 1, fin: false, headers }).await;
            connection.incoming.recv().await.unwrap()
        }
        Role::Client => {
            let accepts = async {
                while !matches!(peer.hears().await, Frame::SynStream { .. }) {}
                peer.say(&Frame::SynReply { stream: 1, fin: false, headers }).await;
            };
            tokio::join!(connection.opener.open(vec![]), accepts).0.unwrap()
        }
    };
    (peer, connection, stream)
}

async fn reads(reader: &mut Reader, count: usize) {
    let mut bytes = vec![0; count];
    reader.read_exact(&mut bytes).await.unwrap();
    assert!(bytes.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn a_server_gives_back_what_was_read() {
    let (mut peer, _connection, mut stream) = joined(Role::Server).await;
    for round in 0..6 {
        peer.sends(stream.id, OFFERED / 2, LARGE, 2 * round + 1).await;
        reads(&mut stream.reader, OFFERED / 2).await;
        assert_eq!(peer.is_told(stream.id).await, OFFERED / 2);
    }
}

#[tokio::test]
async fn a_client_that_keeps_up_offers_more_up_to_an_end() {
    let (mut peer, _connection, mut stream) = joined(Role::Client).await;
    let mut offered = OFFERED;
    for round in 0..6 {
        peer.sends(stream.id, offered / 2, LARGE, 2 * round + 2).await;
        reads(&mut stream.reader, offered / 2).await;
        let more = offered.min(4096 * KIB - offered);
        assert_eq!(peer.is_told(stream.id).await, offered / 2 + more, "round {round}");
        offered += more;
    }
    assert_eq!(offered, 4096 * KIB);
    // Nobody reads: all that was offered finds its place, also in small frames, and the connection goes on.
    peer.sends(stream.id, offered, 128, 20).await;
}

#[tokio::test]
async fn a_client_that_lags_offers_what_it_has_read() {
    let (mut peer, _connection, mut stream) = joined(Role::Client).await;
    peer.sends(stream.id, OFFERED, LARGE, 2).await;
    for round in 0..6 {
        reads(&mut stream.reader, OFFERED / 2).await;
        assert_eq!(peer.is_told(stream.id).await, OFFERED / 2, "round {round}");
        peer.sends(stream.id, OFFERED / 2, LARGE, 2 * round + 4).await;
    }
}
