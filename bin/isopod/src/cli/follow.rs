//! Reading a container's log file: from a place in it to its end, or for as long as the container
//! lives.
//!
//! Always: what stops the following is the container's end, and the log is read once more after it,
//! so nothing that it wrote is missed.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cri_api::v1::{ContainerState, ContainerStatus, ContainerStatusRequest};
use cri_log::{BadRecord, Follower, Record, Stamp, Step, Stream, Tag, Time, Watch};
use tonic::{Code, Status};

use super::failure::{Doing, Failure};
use super::node::Node;
use super::print;

/// How often a container is asked whether it still lives, at first and at last: a command that ends
/// at once is seen to end at once, one that runs for hours costs two questions a second.
const ASK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// How long a runtime may be away, for it is being replaced or was killed; containers do not need it to run on.
const AWAY: Duration = Duration::from_mins(1);
/// How long a log is waited on before the container's end is looked for.
const GLANCE: Duration = Duration::from_millis(20);

/// What of a log is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Print each record's time before it.
    pub timestamps: bool,
    /// Only the last so many lines.
    pub tail: Option<u64>,
    /// Only what is not older.
    pub since: Option<Time>,
    /// Said before each line, to tell containers apart.
    pub prefix: Option<String>,
}

/// Prints what is in the log now.
pub fn print_now(path: &Path, wanted: &Wanted) -> Result<(), Failure> {
    let mut reader = Reader::open(path, wanted)?;
    reader.read_to_idle()?;
    reader.finish()
}

/// Prints the log as it grows until the container has ended, and gives its last status.
pub async fn until_end(
    node: &Node,
    id: &str,
    path: PathBuf,
    wanted: Wanted,
) -> Result<ContainerStatus, Failure> {
    let over = Over(Arc::new(AtomicBool::new(false)));
    let seen = Arc::clone(&over.0);
    let reading = tokio::task::spawn_blocking(move || {
        let watch = Watch::new(&path);
        let mut reader = Reader::open(&path, &wanted)?;
        loop {
            // Asked before reading: what was written before the end is read after it.
            let last = seen.load(Ordering::Acquire);
            reader.read_to_idle()?;
            if last {
                return reader.finish();
            }
            watch.wait(GLANCE).doing("watch the log")?;
        }
    });
    let status = until_exited(node, id).await;
    drop(over);
    let read = reading.await.unwrap_or_else(|error| Err(Failure::caused("read the log", &error)));
    let status = status?;
    read?;
    Ok(status)
}

/// Tells the reader that there will be nothing more; also where the following is given up, for the
/// reader must not outlive it.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Waits until the container has ended.
pub async fn until_exited(node: &Node, id: &str) -> Result<ContainerStatus, Failure> {
    // It follows for as long as the container lives, whatever the runtime does meanwhile.
    let node = node.endless();
    let (mut pause, longest) = ASK;
    let mut answered = Instant::now();
    loop {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = node.runtime().container_status(request).await;
        if is_away(&answer) && answered.elapsed() < AWAY {
            tokio::time::sleep(longest).await;
            continue;
        }
        answered = Instant::now();
        let status = answer.doing("ask whether the container runs")?.into_inner().status;
        let status = status.unwrap_or_default();
        match status.state() {
            ContainerState::ContainerExited | ContainerState::ContainerUnknown => {
                return Ok(status);
            }
            ContainerState::ContainerCreated | ContainerState::ContainerRunning => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(longest);
    }
}

/// Whether nobody answered, as opposed to an answer that says no: only what was made of an error here has one.
pub fn is_away<T>(answer: &Result<T, Status>) -> bool {
    answer.as_ref().is_err_and(|status| {
        status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
    })
}

/// A log that is being printed.
struct Reader {
    follower: Follower,
    printer: Printer,
    path: PathBuf,
}

impl Reader {
    fn open(path: &Path, wanted: &Wanted) -> Result<Self, Failure> {
        let doing = || format!("read the log {}", path.display());
        let mut follower = Follower::open(path).doing(doing())?;
        if let Some(file) = follower.file() {
            let start = start(file, wanted).doing(doing())?;
            follower.skip_to(start);
        }
        let printer = Printer {
            timestamps: wanted.timestamps,
            prefix: wanted.prefix.clone().unwrap_or_default(),
            within: [false; 2],
        };
        Ok(Self { follower, printer, path: path.to_owned() })
    }

    /// Prints all that is there.
    fn read_to_idle(&mut self) -> Result<(), Failure> {
        loop {
            let mut printed = Ok(());
            let printer = &mut self.printer;
            let step = self.follower.step(&mut |record| {
                if printed.is_ok() {
                    printed = printer.print(record);
                }
            });
            let step = step.doing(format!("read the log {}", self.path.display()))?;
            printed?;
            if step == Step::Idle {
                return Ok(());
            }
        }
    }

    /// Tells of a record that never ended.
    fn finish(mut self) -> Result<(), Failure> {
        let mut printed = Ok(());
        let printer = &mut self.printer;
        self.follower.finish(&mut |record| printed = printer.print(record));
        printed
    }
}

/// Where in the log to begin.
fn start(file: &File, wanted: &Wanted) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let by_time = match wanted.since {
        Some(time) => cri_log::since(file, end, time)?,
        None => 0,
    };
    let by_lines = match wanted.tail {
        Some(lines) => cri_log::tail(file, end, lines)?,
        None => 0,
    };
    Ok(by_time.max(by_lines))
}

/// How records are printed.
struct Printer {
    timestamps: bool,
    prefix: String,
    /// Whether stdout's, and stderr's, last piece has not ended its line.
    within: [bool; 2],
}

impl Printer {
    /// What a container wrote to stderr goes to stderr here.
    fn print(&mut self, record: Result<Record<'_>, BadRecord>) -> Result<(), Failure> {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                print::aside(&format!("isopod: a line of the log is no record: {error}"));
                return Ok(());
            }
        };
        let within = &mut self.within[usize::from(record.stream == Stream::Stderr)];
        let mut line = Vec::with_capacity(record.content.len() + self.prefix.len() + 40);
        if !*within {
            line.extend_from_slice(self.prefix.as_bytes());
            if self.timestamps {
                line.extend_from_slice(Stamp::of(record.time).as_str().as_bytes());
                line.push(b' ');
            }
        }
        *within = record.tag == Tag::Partial;
        line.extend_from_slice(record.content);
        line.extend_from_slice(record.end());
        let mut out: Box<dyn Write> = match record.stream {
            Stream::Stdout => Box::new(io::stdout().lock()),
            Stream::Stderr => Box::new(io::stderr().lock()),
        };
        print::bytes(&line, &mut out)
    }
}
