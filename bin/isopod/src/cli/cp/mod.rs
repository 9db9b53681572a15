//! `isopod cp`: files into a container and out of it, through the container's own tar.
//!
//! Always: what a container sends is not trusted: a name that leaves the target is refused, no link of the
//! archive is ever followed, no device is made.

mod give;
mod place;
mod take;

use std::path::{Path, PathBuf};

use cri_streaming::Outcome as Ended;
use cri_streaming::client::Session;
use cri_streaming::server::{Input, Streams};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Doing, Failure, Outcome};
use super::node::Node;
use super::{exec, find, stream};

/// The longest complaint of a tar that is shown.
const COMPLAINT: u64 = 16 << 10;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stream: stream::Options,
    /// What to copy: a path of this machine, or CONTAINER:PATH
    #[arg(value_name = "FROM")]
    from: String,
    /// Where to: a path of this machine, or CONTAINER:PATH; into it, if it is a directory
    #[arg(value_name = "TO")]
    to: String,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    Here(PathBuf),
    Inside { container: String, path: PathBuf },
}

/// `NAME:PATH` or `POD/NAME:PATH` is in a container; a path of this machine that looks so is written with
/// `./` before it, or from the root.
fn side(text: &str) -> Side {
    match text.split_once(':') {
        Some((container, path)) if is_name(container) => {
            Side::Inside { container: container.to_owned(), path: path.into() }
        }
        Some(_) | None => Side::Here(text.into()),
    }
}

/// A container's name, perhaps with its pod's.
fn is_name(text: &str) -> bool {
    let mut parts = text.split('/');
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let count = text.split('/').count();
    (1..=3).contains(&count) && parts.all(is_part)
}

/// Copies.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let doing = format!("copy {} to {}", args.from, args.to);
    match (side(&args.from), side(&args.to)) {
        (Side::Inside { container, path }, Side::Here(here)) => {
            let far = Far::find(node, args, &container, &doing).await?;
            take::take(&far, &path, &here).await
        }
        (Side::Here(here), Side::Inside { container, path }) => {
            let far = Far::find(node, args, &container, &doing).await?;
            give::give(&far, &here, &path).await
        }
        (Side::Here(_), Side::Here(_)) => Err(Failure::new(doing, "neither is in a container")
            .advise("a path in a container is written CONTAINER:PATH")),
        (Side::Inside { .. }, Side::Inside { .. }) => {
            Err(Failure::new(doing, "both are in containers")
                .advise("copy to this machine first, then into the other container"))
        }
    }
}

/// A container to copy from or to.
struct Far<'a> {
    node: &'a Node,
    options: &'a stream::Options,
    id: String,
    doing: &'a str,
}

impl<'a> Far<'a> {
    async fn find(
        node: &'a Node,
        args: &'a Args,
        container: &str,
        doing: &'a str,
    ) -> Result<Self, Failure> {
        let id = find::container(node, container).await?.id;
        Ok(Self { node, options: &args.stream, id, doing })
    }

    /// Runs a command in it, with these streams beside its standard error.
    async fn run(&self, command: Vec<String>, stdin: bool) -> Result<Session, Failure> {
        let streams = Streams { tty: false, stdin, stdout: true, stderr: true };
        let url = async || {
            exec::url(self.node, self.id.clone(), command.clone(), streams, self.doing).await
        };
        self.options.session(streams, self.doing, url).await
    }

    fn failed(&self, why: impl Into<String>) -> Failure {
        Failure::new(self.doing, why)
    }

    /// What came of the tar in the container and of the work on this side, whichever fails first.
    async fn finish(
        &self,
        mut session: Session,
        work: tokio::task::JoinHandle<Result<(), String>>,
    ) -> Outcome {
        let (stdout, stderr) = (session.stdout.take(), session.stderr.take());
        let mut interrupted = signal(SignalKind::interrupt()).doing(self.doing)?;
        let mut terminated = signal(SignalKind::terminate()).doing(self.doing)?;
        let here = async {
            match work.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(why)) => Err(why),
                Err(error) => Err(error.to_string()),
            }
        };
        let far = async {
            let (complaint, _, ended) = tokio::join!(said(stderr), said(stdout), session.outcome);
            match ended {
                Ok(Ended::Success) => Ok(()),
                Ok(Ended::ExitCode(code)) if complaint.is_empty() => {
                    Err(format!("tar in the container ends with {code}"))
                }
                Ok(Ended::ExitCode(_)) => Err(format!("in the container: {complaint}")),
                Ok(Ended::Failed(why)) => Err(why),
                Err(error) => Err(error.to_string()),
            }
        };
        tokio::pin!(here, far);
        let both = async {
            tokio::select! {
                done = &mut here => {
                    // A side that fails may have made the other one fail: the first cause is in the container.
                    match (done, (&mut far).await) {
                        (_, Err(why)) | (Err(why), Ok(())) => Err(why),
                        (Ok(()), Ok(())) => Ok(()),
                    }
                }
                ended = &mut far => {
                    ended?;
                    (&mut here).await
                }
            }
        };
        tokio::select! {
            done = both => done.map(|()| 0).map_err(|why| self.failed(why)),
            _ = interrupted.recv() => Ok(130),
            _ = terminated.recv() => Ok(143),
        }
    }
}

/// What a stream says, cut; the rest is read and thrown away.
async fn said(from: Option<Input>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut bytes = Vec::new();
    let _ = (&mut from).take(COMPLAINT).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).trim().replace('\n', "; ")
}

/// The directory that a path is in, and its name there.
fn split(path: &Path) -> Option<(PathBuf, String)> {
    let name = path.file_name()?.to_str()?.to_owned();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Some((parent.unwrap_or(Path::new(".")).to_owned(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_with_a_name_before_a_colon_is_in_a_container() {
        let inside = |container: &str, path: &str| Side::Inside {
            container: container.to_owned(),
            path: path.into(),
        };
        assert_eq!(side("web:/etc/x"), inside("web", "/etc/x"));
        assert_eq!(side("web:x:y"), inside("web", "x:y"));
        assert_eq!(side("app/web:/x"), inside("app/web", "/x"));
        assert_eq!(side("prod/app/web:/x"), inside("prod/app/web", "/x"));
        for here in ["./web:x", "../a:b", "/a:b", "x", ":x", "a//b:c", "a/b/c/d:e"] {
            assert_eq!(side(here), Side::Here(here.into()));
        }
    }

    #[test]
    fn a_path_is_split_into_its_directory_and_its_name() {
        let pair = |dir: &str, name: &str| Some((PathBuf::from(dir), name.to_owned()));
        assert_eq!(split(Path::new("/a/b/")), pair("/a", "b"));
        assert_eq!(split(Path::new("b")), pair(".", "b"));
        assert_eq!(split(Path::new("/b/.")), pair("/", "b"));
        assert_eq!(split(Path::new("/")), None);
        assert_eq!(split(Path::new("/a/..")), None);
    }
}
