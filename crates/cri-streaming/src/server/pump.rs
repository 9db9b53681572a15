//! The sizes of a client's terminal.

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

use super::io::{SIZES_AHEAD, Size, Sizes};

/// The sizes that a resize stream says, and the future that reads them.
pub(super) fn sizes(
    stream: impl AsyncRead + Send + Unpin + 'static,
) -> (mpsc::Receiver<Size>, impl Future<Output = ()> + Send) {
    let (sender, receiver) = mpsc::channel(SIZES_AHEAD);
    let pump = async move {
        let mut stream = stream;
        let mut sizes = Sizes::default();
        let mut buffer = [0; 256];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let Some(new) = sizes.push(&buffer[..count]) else { return };
            for size in new {
                if sender.send(size).await.is_err() {
                    return;
                }
            }
        }
    };
    (receiver, pump)
}

/// No sizes: there is no terminal.
pub(super) fn no_sizes() -> mpsc::Receiver<Size> {
    mpsc::channel(1).1
}
