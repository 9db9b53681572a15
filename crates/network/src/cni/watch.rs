//! The configuration is looked at when it changes, and plugins are asked whether they can serve.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::Notify;

use super::conf::Network;
use super::dir::Unusable;
use super::exec::locate;
use super::{Cni, not_ready, ready};
use crate::status::Reason;

/// While the network is not ready: plugins are installed, directories are made, plugins change their mind.
const WHILE_NOT_READY: Duration = Duration::from_millis(500);
/// While it is ready.
const WHILE_READY: Duration = Duration::from_secs(10);

/// What a program said to VERSION, as long as the file is the same.
type Versions = HashMap<PathBuf, (Option<SystemTime>, u64, Option<Vec<String>>)>;

/// Looks after the configuration until `cni` is gone.
pub(crate) async fn watch(cni: Weak<Cni>) {
    let mut versions = Versions::new();
    let mut watched: Option<Watched> = None;
    loop {
        let Some(cni) = cni.upgrade() else { return };
        let dirs = cni.dirs();
        let there: Vec<PathBuf> = dirs.iter().filter(|dir| dir.is_dir()).cloned().collect();
        let all_there = there.len() == dirs.len();
        if watched.as_ref().is_none_or(|watched| watched.is_over(&there)) {
            // Before the look, so that no change between the two is missed.
            watched = Watched::start(there, &cni.reload);
        }
        look(&cni, &mut versions).await;
        let quiet = cni.status().ready && all_there && watched.is_some();
        let pause = if quiet { WHILE_READY } else { WHILE_NOT_READY };
        let reload = Arc::clone(&cni.reload);
        // While it waits it must not keep the networks alive.
        drop(cni);
        tokio::select! {
            () = reload.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Reads the directories and asks the plugins; the status is the sum.
async fn look(cni: &Arc<Cni>, versions: &mut Versions) {
    let reader = Arc::clone(cni);
    let read = tokio::task::spawn_blocking(move || reader.read_dirs()).await;
    if !read.is_ok_and(|status| status.ready) {
        return;
    }
    let Ok(networks) = cni.networks(&cni.config.conf_dir) else { return };
    let mut unusable = None;
    for network in networks.iter() {
        unusable = match speaks(cni, network, versions).await {
            Some(words) => Some(words),
            None => cni.ask_status(network).await.err().map(|error| error.to_string()),
        };
        if unusable.is_some() {
            break;
        }
    }
    let status = unusable.map_or_else(
        || ready(&networks),
        |message| not_ready(Unusable { reason: Reason::PluginNotReady, message }),
    );
    cni.loaded(|loaded| loaded.set_status(status));
}

/// What is wrong if a plugin of the network does not speak the network's version.
async fn speaks(cni: &Cni, network: &Network, versions: &mut Versions) -> Option<String> {
    for plugin in &network.plugins {
        let Ok(program) = locate(&plugin.kind, &cni.config.bin_dirs) else { continue };
        let Ok(meta) = std::fs::metadata(&program) else { continue };
        let (written, length) = (meta.modified().ok(), meta.len());
        let known = versions.get(&program).filter(|(w, l, _)| *w == written && *l == length);
        let spoken = match known {
            Some((.., spoken)) => spoken.clone(),
            None => {
                let spoken = cni.ask_versions(&program, &plugin.kind).await;
                versions.insert(program.clone(), (written, length, spoken.clone()));
                spoken
            }
        };
        // One that does not say is tried; it will say at ADD.
        let Some(spoken) = spoken else { continue };
        let version = network.version.to_string();
        if !spoken.contains(&version) {
            return Some(format!(
                "CNI plugin {} speaks {}, and network {:?} is configured as {version}",
                program.display(),
                spoken.join(", "),
                network.name
            ));
        }
    }
    None
}

/// A thread that watches the directories. Descriptors of inotify(7) cannot join tokio's without unsafe code.
#[derive(Debug)]
struct Watched {
    dirs: Vec<PathBuf>,
    /// Set when there is nothing left to watch.
    ended: Arc<AtomicBool>,
    /// Its end is the thread's.
    _stop: OwnedFd,
}

impl Watched {
    /// Whether these directories are no longer the ones that are watched.
    fn is_over(&self, dirs: &[PathBuf]) -> bool {
        self.ended.load(Ordering::Acquire) || self.dirs != dirs
    }

    /// Watches the directories and tells `reload` of each change; `None` if that cannot be.
    fn start(dirs: Vec<PathBuf>, reload: &Arc<Notify>) -> Option<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for dir in &dirs {
            if let Err(error) = inotify::add_watch(&fd, dir, flags) {
                tracing::debug!(dir = %dir.display(), %error, "not watched; looked at from time to time");
                return None;
            }
        }
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC).ok()?;
        let ended = Arc::new(AtomicBool::new(false));
        let (end, reload) = (Arc::clone(&ended), Arc::clone(reload));
        let thread = std::thread::Builder::new().name("cni-watch".into()).spawn(move || {
            while wait(&fd, &stopped) {
                let alive = read(&fd);
                if !alive {
                    break;
                }
                reload.notify_one();
            }
            end.store(true, Ordering::Release);
            reload.notify_one();
        });
        thread.ok().map(|_| Self { dirs, ended, _stop: stop })
    }
}

/// Waits for a change. False when the watch is over.
fn wait(fd: &OwnedFd, stopped: &OwnedFd) -> bool {
    let mut both = [PollFd::new(fd, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
    match poll(&mut both, None) {
        Ok(_) => both[1].revents().is_empty(),
        Err(error) => error == rustix::io::Errno::INTR,
    }
}

/// Takes what has changed. False if a directory itself has gone.
fn read(fd: &OwnedFd) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(fd, &mut buffer);
    let end = ReadFlags::IGNORED
        | ReadFlags::DELETE_SELF
        | ReadFlags::MOVE_SELF
        | ReadFlags::QUEUE_OVERFLOW;
    let mut alive = true;
    while let Ok(event) = reader.next() {
        alive &= !event.events().intersects(end);
    }
    alive
}
