//! A person, or a pipe, at the streams of a process in a container.

use std::io;

use cri_streaming::Outcome as Ended;
use cri_streaming::client::{Resizer, Session};
use cri_streaming::server::{Input, Output, Streams};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Options;
use super::detach::{Keys, Watch};
use super::terminal::{self, Raw};
use crate::cli::failure::{Doing as _, Failure};
use crate::cli::{READER_IS_GONE, print};

const CHUNK: usize = 32 << 10;

/// How it came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The process ended, or its streams did; its exit code.
    Ended(u8),
    /// The person typed the keys for it.
    Detached,
    /// This program got a signal; its number.
    Signalled(i32),
}

impl Left {
    /// What this program ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Ended(code) => code,
            Self::Detached => 0,
            Self::Signalled(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
        }
    }
}

/// What the one or the other side did.
enum First {
    Ended(Ended),
    Detached,
    Signalled(i32),
}

/// Connects this program's own streams with those at the URL that `url` gets, until either has enough.
pub async fn attend(
    url: impl AsyncFn() -> Result<String, Failure>,
    streams: Streams,
    options: &Options,
    keys: Option<&Keys>,
    doing: &str,
) -> Result<Left, Failure> {
    let session = options.session(streams, doing, url).await?;
    let mut signals = Signals::listen().doing(doing)?;
    let raw = if streams.tty && streams.stdin { Raw::enter().doing(doing)? } else { None };
    // Where nobody types, no byte is a key.
    let watch = Watch::new(keys.filter(|_| raw.is_some()));
    let left = run(session, watch, &mut signals).await;
    drop(raw);
    match left.map_err(|error| broken(doing, &error))? {
        First::Ended(Ended::Success) => Ok(Left::Ended(0)),
        // Linux keeps eight bits of an exit code.
        First::Ended(Ended::ExitCode(code)) => u8::try_from(code)
            .map(Left::Ended)
            .map_err(|_| Failure::new(doing, format!("its exit code is {code}"))),
        First::Ended(Ended::Failed(why)) => Err(Failure::new(doing, why)),
        First::Detached => {
            print::aside("\ndetached; the container goes on");
            Ok(Left::Detached)
        }
        First::Signalled(number) => Ok(Left::Signalled(number)),
    }
}

fn broken(doing: &str, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::new(READER_IS_GONE, "");
    }
    Failure::caused(doing, error)
}

async fn run(session: Session, watch: Watch, signals: &mut Signals) -> io::Result<First> {
    let Session { stdin, stdout, stderr, resizer, outcome } = session;
    let ended = async {
        // All that was written is printed before the end is told; where nobody reads it any more, that is the end.
        let ((), (), ended) = tokio::try_join!(
            show(stdout, tokio::io::stdout()),
            show(stderr, tokio::io::stderr()),
            async { Ok(outcome.await) }
        )?;
        ended.map(First::Ended)
    };
    tokio::select! {
        left = ended => left,
        left = feed(stdin, watch) => Ok(left),
        left = follow(resizer, signals) => Ok(left),
    }
}

/// Prints what comes, until it ends.
async fn show(from: Option<Input>, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match from.read(&mut buffer).await {
            // Why a connection broke, the outcome tells better.
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => count,
        };
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}

/// Sends what is typed. Comes back only when the keys were typed.
async fn feed(to: Option<Output>, mut watch: Watch) -> First {
    let Some(mut to) = to else { return std::future::pending().await };
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let (typed, is_over) = watch.push(&buffer[..count]);
        let sent = async {
            to.write_all(&typed).await?;
            to.flush().await
        };
        // A process that has closed its input goes on; its end is told by the outcome.
        let sent = sent.await;
        if is_over {
            return First::Detached;
        }
        if sent.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
    std::future::pending().await
}

/// Tells the terminal's size now and whenever it changes. Comes back when a signal ends this program: the
/// connection goes with it, and the process gets what a lost terminal would give it.
async fn follow(mut resizer: Option<Resizer>, signals: &mut Signals) -> First {
    loop {
        if let (Some(resizer), Some(size)) = (&mut resizer, terminal::size()) {
            // An outcome will tell of a connection that is gone.
            let _ = resizer.resize(size).await;
        }
        if let Some(number) = signals.next().await {
            return First::Signalled(number);
        }
    }
}

struct Signals {
    resized: Signal,
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            resized: signal(SignalKind::window_change())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The number of a signal that ends this program; nothing for a new size.
    async fn next(&mut self) -> Option<i32> {
        let ends = |kind: SignalKind| Some(kind.as_raw_value());
        tokio::select! {
            _ = self.resized.recv() => None,
            _ = self.interrupt.recv() => ends(SignalKind::interrupt()),
            _ = self.terminate.recv() => ends(SignalKind::terminate()),
            _ = self.hang_up.recv() => ends(SignalKind::hangup()),
        }
    }
}
