//! Bytes from one end to the other.

use std::io;
use std::time::Duration;

use cri_streaming::Source;
use cri_streaming::server::Output;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// What an idle stream costs.
const LEAST: usize = 4 << 10;
/// What is moved at once where there is much: what a pipe holds.
const MOST: usize = 64 << 10;
/// How long a stream may be silent once its process has ended, if somebody else still holds it.
const GRACE: Duration = Duration::from_secs(2);
/// What is read of a stream once its process has ended: as much as a pipe holds that the process has enlarged, by
/// itself, to fs.pipe-max-size (pipe(7)), which is 1 MiB unless a node says otherwise. More than that comes from
/// somebody who was not asked for, or was in a pipe that only a privileged process could make.
const REST: usize = 1 << 20;

/// From a client to a container, until either has enough.
pub(super) async fn input<R, W>(mut from: R, to: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; LEAST];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
        grow(&mut buffer, count);
    }
}

/// From a container to a client, whose stream is ended then. Once `over`, what is left is carried, and no
/// more is waited for.
pub(super) async fn output(from: Source, to: Output, over: &CancellationToken) -> io::Result<()> {
    let mut carry = to.carry(from);
    let mut rest = REST;
    while rest > 0 {
        let silence = async {
            over.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        // What is taken before the end is none of the rest, however long the client lets it wait.
        let is_rest = over.is_cancelled();
        let count = tokio::select! {
            biased;
            taken = carry.take() => taken?,
            () = silence => 0,
        };
        if count == 0 {
            break;
        }
        carry.send().await?;
        if is_rest {
            rest = rest.saturating_sub(count);
        }
    }
    carry.end().await
}

/// A stream that fills its buffer gets a larger one.
fn grow(buffer: &mut Vec<u8>, count: usize) {
    if count == buffer.len() && count < MOST {
        *buffer = vec![0; MOST];
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::net::unix::pipe;

    use super::*;

    #[tokio::test]
    async fn all_is_carried_and_the_clients_stream_ends() {
        let (mut container, from) = pipe::pipe().unwrap();
        let (to, mut client) = duplex(1 << 16);
        let (from, to) = (Source::pipe(from), Output::new(to));
        let over = CancellationToken::new();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let write = async {
            container.write_all(&sent).await.unwrap();
            drop(container);
        };
        let mut got = Vec::new();
        let (carried, (), read) =
            tokio::join!(output(from, to, &over), write, client.read_to_end(&mut got));
        carried.unwrap();
        read.unwrap();
        assert!(got == sent);
    }

    #[tokio::test]
    async fn a_full_pipe_is_carried_whole_whatever_the_client_has_not_read_when_its_process_ends() {
        let (container, from) = pipe::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&container, REST).unwrap();
        let (to, mut client) = duplex(4 << 10);
        let (from, to) = (Source::pipe(from), Output::new(to));
        let over = CancellationToken::new();
        let process = async {
            // Until the pipe is full, and the piece that was taken out of it before waits for the client.
            let (mut sent, mut refused) = (0, 0);
            while refused < 100 {
                if let Ok(count) = container.try_write(&[7; 4 << 10]) {
                    (sent, refused) = (sent + count, 0);
                } else {
                    refused += 1;
                    tokio::task::yield_now().await;
                }
            }
            over.cancel();
            drop(container);
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            (sent, got.len())
        };
        let (carried, (sent, got)) = tokio::join!(output(from, to, &over), process);
        carried.unwrap();
        assert!(sent > REST, "{sent} bytes");
        assert_eq!(got, sent);
    }

    #[tokio::test]
    async fn whoever_keeps_a_stream_open_does_not_keep_its_client() {
        let (mut container, from) = pipe::pipe().unwrap();
        let (to, mut client) = duplex(1 << 16);
        let (from, to) = (Source::pipe(from), Output::new(to));
        let over = CancellationToken::new();
        container.write_all(b"last words").await.unwrap();
        over.cancel();
        let mut got = String::new();
        let (carried, read) =
            tokio::join!(output(from, to, &over), client.read_to_string(&mut got));
        carried.unwrap();
        read.unwrap();
        assert_eq!(got, "last words");
        drop(container);
    }
}
