//! Talking to a monitor: many calls at once over one socket.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{ContainerId, Exit, Timestamp};
use monitor_api::{
    AttachEnd, BadFrame, Create, Created, Decoder, Event, FromMonitor, KillScope, Refusal, Reply,
    Request, TerminalSize, ToMonitor, Welcome, encode,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use crate::error::MonitorError;

/// Events that may wait. They are few (one per container's end), and whoever takes them does nothing else.
const EVENTS_AHEAD: usize = 1024;
const READ_SIZE: usize = 16 << 10;

/// What happens without being asked for.
#[derive(Debug)]
pub enum MonitorEvent {
    /// A container has ended.
    Exited {
        /// Which.
        container: ContainerId,
        /// How.
        exit: Exit,
    },
    /// The connection has ended; nothing comes after this.
    Gone,
}

/// A monitor's events, in order.
pub type MonitorEvents = mpsc::Receiver<MonitorEvent>;

/// An answer, and the descriptors that came with it.
type Answer = Result<(Reply, Vec<OwnedFd>), Refusal>;

#[derive(Debug, Default)]
struct Pending {
    is_over: bool,
    calls: HashMap<u64, oneshot::Sender<Answer>>,
    execs: HashMap<u64, oneshot::Sender<i32>>,
    attaches: HashMap<u64, oneshot::Sender<AttachEnd>>,
}

#[derive(Debug)]
struct Shared {
    socket: UnixStream,
    /// What is still to be written of the last message: whoever wrote it has given up in the middle. One message
    /// is written at a time, and none before this.
    unwritten: AsyncMutex<Vec<u8>>,
    pending: Mutex<Pending>,
    last_id: AtomicU64,
}

/// A connection to a monitor. Clones share it; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Monitor {
    shared: Arc<Shared>,
    _alive: Arc<Reader>,
}

/// Ends the task that reads when nobody can ask any more.
#[derive(Debug)]
struct Reader(tokio::task::AbortHandle);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Monitor {
    /// Talks over `socket` from now on.
    pub(crate) fn over(
        socket: std::os::unix::net::UnixStream,
    ) -> io::Result<(Self, MonitorEvents)> {
        socket.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            socket: UnixStream::from_std(socket)?,
            unwritten: AsyncMutex::default(),
            pending: Mutex::default(),
            last_id: AtomicU64::new(0),
        });
        let (events, receiver) = mpsc::channel(EVENTS_AHEAD);
        let reader = tokio::spawn(read_all(Arc::clone(&shared), events));
        Ok((Self { shared, _alive: Arc::new(Reader(reader.abort_handle())) }, receiver))
    }

    pub(crate) fn new_id(&self) -> u64 {
        self.shared.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn call(
        &self,
        request: Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Reply, MonitorError> {
        self.call_for_fds(request, fds).await.map(|(reply, _)| reply)
    }

    /// Asks, and waits for the answer and its descriptors.
    pub(crate) async fn call_for_fds(
        &self,
        request: Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), MonitorError> {
        let id = self.new_id();
        let count = u32::try_from(fds.len()).unwrap_or(u32::MAX);
        let message = encode(&ToMonitor { id, fds: count, request })?;
        let (sender, answer) = oneshot::channel();
        {
            let mut pending = self.shared.pending();
            if pending.is_over {
                return Err(MonitorError::Gone);
            }
            pending.calls.insert(id, sender);
        }
        if let Err(error) = self.shared.write(&message, fds).await {
            self.shared.pending().calls.remove(&id);
            tracing::debug!(%error, "a request could not be written to a monitor");
            return Err(MonitorError::Gone);
        }
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(refusal)) => Err(MonitorError::Refused(refusal)),
            Err(_) => Err(MonitorError::Gone),
        }
    }

    /// Expects the end of the exec `number`; before it is asked for, so that no end comes too early.
    pub(crate) fn expect_exec(&self, number: u64) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        self.shared.pending().execs.insert(number, sender);
        receiver
    }

    pub(crate) fn forget_exec(&self, number: u64) {
        self.shared.pending().execs.remove(&number);
    }

    /// Expects the end of the attach `number`; before it is asked for, so that no end comes too early.
    pub(crate) fn expect_attach(&self, number: u64) -> oneshot::Receiver<AttachEnd> {
        let (sender, receiver) = oneshot::channel();
        self.shared.pending().attaches.insert(number, sender);
        receiver
    }

    pub(crate) fn forget_attach(&self, number: u64) {
        self.shared.pending().attaches.remove(&number);
    }

    /// What the monitor is and what it holds.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub async fn hello(&self) -> Result<Welcome, MonitorError> {
        let Reply::Welcome(welcome) =
            self.call(Request::Hello { protocol: monitor_api::PROTOCOL }, &[]).await?
        else {
            return Err(nonsense("hello"));
        };
        Ok(welcome)
    }

    /// Sets a container up to the point where it waits for its start.
    ///
    /// # Errors
    /// [`MonitorError`]; nothing of the container is left in the monitor then.
    pub async fn create(&self, request: Create) -> Result<Created, MonitorError> {
        let Reply::Created(created) = self.call(Request::Create(Box::new(request)), &[]).await?
        else {
            return Err(nonsense("create"));
        };
        Ok(created)
    }

    /// Starts a container that was created; returns when.
    ///
    /// # Errors
    /// [`MonitorError`]; the container has ended then, or was in no state to be started.
    pub async fn start(&self, container: ContainerId) -> Result<Timestamp, MonitorError> {
        let Reply::Started { at } = self.call(Request::Start { container }, &[]).await? else {
            return Err(nonsense("start"));
        };
        Ok(at)
    }

    /// Sends a signal; a container that has ended is no error.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub async fn kill(
        &self,
        container: ContainerId,
        signal: model::Signal,
        scope: KillScope,
    ) -> Result<(), MonitorError> {
        self.done(Request::Kill { container, signal: signal.number(), scope }).await
    }

    /// Lets a container's log go on in the file that has its name now.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub async fn reopen_log(&self, container: ContainerId) -> Result<(), MonitorError> {
        self.done(Request::ReopenLog { container }).await
    }

    /// Closes the monitor's own end of a container's standard input.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub async fn close_stdin(&self, container: ContainerId) -> Result<(), MonitorError> {
        self.done(Request::CloseStdin { container }).await
    }

    /// Changes the size of a container's terminal.
    ///
    /// # Errors
    /// [`MonitorError`]; a container without a terminal is one.
    pub async fn resize(
        &self,
        container: ContainerId,
        size: TerminalSize,
    ) -> Result<(), MonitorError> {
        self.done(Request::Resize { container, size }).await
    }

    /// Lets the monitor forget a container that has ended.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub async fn remove(&self, container: ContainerId) -> Result<(), MonitorError> {
        self.done(Request::Remove { container }).await
    }

    /// Ends the monitor and everything in it.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub async fn shut_down(&self) -> Result<(), MonitorError> {
        self.done(Request::Shutdown).await
    }

    pub(crate) async fn done(&self, request: Request) -> Result<(), MonitorError> {
        let Reply::Done = self.call(request, &[]).await? else {
            return Err(nonsense("another request"));
        };
        Ok(())
    }
}

pub(crate) fn nonsense(request: &str) -> MonitorError {
    MonitorError::Nonsense(format!("it is not one to {request}"))
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        // What is under the lock is whole between any two statements.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a message. Whoever gives up in the middle leaves the rest of it to the next one: half a message
    /// would make nonsense of everything after it.
    async fn write(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut unwritten = self.unwritten.lock().await;
        self.write_rest(&mut unwritten).await?;
        // The descriptors go with the first piece.
        let count = self.write_piece(message, fds).await?;
        unwritten.extend_from_slice(&message[count..]);
        self.write_rest(&mut unwritten).await
    }

    async fn write_rest(&self, rest: &mut Vec<u8>) -> io::Result<()> {
        while !rest.is_empty() {
            let count = self.write_piece(rest, &[]).await?;
            rest.drain(..count);
        }
        Ok(())
    }

    /// Writes some of `bytes`, or nothing if this is dropped before its end.
    async fn write_piece(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        loop {
            let write = || sys::send(self.socket.as_fd(), bytes, fds);
            match self.socket.try_io(Interest::WRITABLE, write) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.socket.writable().await?,
                result => return result,
            }
        }
    }

    async fn read(&self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        loop {
            let read = || sys::receive(self.socket.as_fd(), buffer, fds);
            match self.socket.try_io(Interest::READABLE, read) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.socket.readable().await?,
                result => return result,
            }
        }
    }
}

async fn read_all(shared: Arc<Shared>, events: mpsc::Sender<MonitorEvent>) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_SIZE];
    let (mut came, mut fds) = (Vec::new(), VecDeque::new());
    'reading: loop {
        match shared.read(&mut buffer, &mut came).await {
            Ok(0) => break,
            Ok(count) => decoder.push(&buffer[..count]),
            Err(error) => {
                tracing::debug!(%error, "reading from a monitor");
                break;
            }
        }
        fds.extend(came.drain(..));
        loop {
            match decoder.take::<FromMonitor>() {
                Ok(Some(message)) => {
                    if !deliver(&shared, &events, message, &mut fds).await {
                        break 'reading;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a message of a monitor was not understood");
                    match error {
                        BadFrame::Unknown { fds: count, .. } if take(&mut fds, count).is_some() => {
                        }
                        BadFrame::Unknown { .. }
                        | BadFrame::TooLong(_)
                        | BadFrame::Unwritable(_) => {
                            break 'reading;
                        }
                    }
                }
            }
        }
    }
    over(&shared, &events).await;
}

/// The next `count` descriptors; `None` if fewer have come than were announced.
fn take(fds: &mut VecDeque<OwnedFd>, count: u32) -> Option<Vec<OwnedFd>> {
    let count = usize::try_from(count).ok()?;
    (fds.len() >= count).then(|| fds.drain(..count).collect())
}

/// Hands a message to whoever waits for it; false if it makes no sense and the connection is of no use.
async fn deliver(
    shared: &Shared,
    events: &mpsc::Sender<MonitorEvent>,
    message: FromMonitor,
    fds: &mut VecDeque<OwnedFd>,
) -> bool {
    match message {
        FromMonitor::Reply { id, fds: count, result } => {
            let Some(fds) = take(fds, count) else { return false };
            let call = shared.pending().calls.remove(&id);
            if let Some(call) = call {
                // The caller may have given up.
                let _ = call.send(result.map(|reply| (reply, fds)));
            }
        }
        FromMonitor::Event(Event::ExecEnded { exec, code }) => {
            let waiting = shared.pending().execs.remove(&exec);
            if let Some(waiting) = waiting {
                let _ = waiting.send(code);
            }
        }
        FromMonitor::Event(Event::AttachEnded { attach, why }) => {
            let waiting = shared.pending().attaches.remove(&attach);
            if let Some(waiting) = waiting {
                let _ = waiting.send(why);
            }
        }
        FromMonitor::Event(Event::Exited { container, exit }) => {
            let _ = events.send(MonitorEvent::Exited { container, exit }).await;
        }
    }
    true
}

/// Everybody who waits is told by the end of the channel that they wait on.
async fn over(shared: &Shared, events: &mpsc::Sender<MonitorEvent>) {
    *shared.pending() = Pending { is_over: true, ..Pending::default() };
    let _ = events.send(MonitorEvent::Gone).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_message_that_was_given_up_in_the_middle_is_whole_before_the_next_one() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (monitor, _events) = Monitor::over(ours).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut theirs = UnixStream::from_std(theirs).unwrap();
        // More than the socket holds, and nobody reads yet.
        let (long, short) = (vec![b'a'; 4 << 20], vec![b'b'; 10]);
        let soon = Duration::from_millis(20);
        let write = monitor.shared.write(&long, &[]);
        assert!(tokio::time::timeout(soon, write).await.is_err());
        let mut read = vec![0; long.len() + short.len()];
        let (written, all) =
            tokio::join!(monitor.shared.write(&short, &[]), theirs.read_exact(&mut read));
        written.unwrap();
        all.unwrap();
        assert!(read[..long.len()] == long && read[long.len()..] == short);
    }
}
