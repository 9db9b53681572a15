//! How each undo is carried out, in bounded time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cgroups::{Cgroup, CgroupPath};
use model::{Class, ContainerId, SandboxId, Signal};
use monitor_client::api::KillScope;
use monitor_client::{Identity, Monitor, MonitorError, MonitorEvent, MonitorEvents};
use operations::Spot;

use crate::config::Deadlines;
use crate::error::Cause;
use crate::pods::{Inner, Pods, file_failed};
use crate::steps::{bounded, bounded_at, unblocked};
use crate::undo::{Hands, Undo};

/// How often a process that was killed is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl Hands for Inner {
    async fn carry_out(&self, undo: &Undo) -> Result<(), Cause> {
        fault::check!("undo.", undo.name(), ".before")
            .map_err(file_failed("pass the point of", Path::new(undo.name())))?;
        let undone = self.carry_out_now(undo).await;
        fault::point!("undo.", undo.name(), ".after");
        undone
    }
}

impl Inner {
    async fn carry_out_now(&self, undo: &Undo) -> Result<(), Cause> {
        let deadlines = &self.config.deadlines;
        match undo {
            Undo::ForgetSandbox(id) => Ok(self.table.forget_sandbox(id)?),
            Undo::ForgetContainer(id) => Ok(self.table.forget_container(id)?),
            Undo::RemoveDirectory(path) => {
                let path = path.clone();
                let work = unblocked(move || remove_directory(&path));
                bounded("remove directory", deadlines.rootfs, work).await
            }
            Undo::RemoveNetns(id) => {
                let work = Box::pin(self.services.networks.remove_netns(id));
                bounded("remove netns", deadlines.network, work).await
            }
            Undo::Detach { attachment, result } => {
                let work = Box::pin(self.services.networks.detach(attachment, result.as_ref()));
                bounded("detach network", deadlines.network, work).await
            }
            Undo::RemoveCgroup(path) => self.remove_cgroup(path).await,
            Undo::EndMonitor { sandbox, directory, identity } => {
                Box::pin(self.end_monitor(sandbox, directory, *identity)).await
            }
            Undo::ReleaseRootfs(id) => self.release(id).await,
            Undo::RemoveFromMonitor { sandbox, container } => {
                self.remove_from_monitor(sandbox, container).await
            }
        }
    }
}

/// Tries what is owed, for as long as there are pods.
pub(crate) fn work_on_what_is_owed(pods: &Pods) {
    let weak = Arc::downgrade(&pods.inner);
    tokio::spawn(async move {
        while let Some(inner) = weak.upgrade() {
            // So that the last of the others can be dropped meanwhile, nothing waits for long.
            let is_due = tokio::time::timeout(Duration::from_secs(5), inner.owed.due()).await;
            if is_due.is_ok() {
                inner.owed.work(inner.as_ref()).await;
            }
        }
    });
}

/// Deletes a directory with all in it; links are deleted and not followed.
fn remove_directory(path: &Path) -> Result<(), Cause> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file_failed("remove", path)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Inner {
    /// Kills what is in a cgroup and removes it.
    pub(crate) async fn remove_cgroup(&self, path: &CgroupPath) -> Result<(), Cause> {
        let cgroup = Cgroup::at(&self.hierarchies, path);
        let work = unblocked(move || {
            if cgroup.remove_if_empty() {
                return Ok(());
            }
            if cgroup.exists() {
                cgroup.kill_all()?;
            }
            cgroup.remove()
        });
        bounded("remove cgroup", self.config.deadlines.cgroup, work).await
    }

    /// Gives a container's root file system and volumes back.
    pub(crate) async fn release(&self, id: &ContainerId) -> Result<(), Cause> {
        let (images, id) = (self.services.images.clone(), id.clone());
        let work = unblocked(move || images.release(&id));
        bounded("release rootfs", self.config.deadlines.rootfs, work).await
    }

    /// Kills a container in its monitor and lets that forget it. One without a monitor is gone already.
    pub(crate) async fn remove_from_monitor(
        &self,
        sandbox: &SandboxId,
        container: &ContainerId,
    ) -> Result<(), Cause> {
        let Some(monitor) = self.table.monitor(sandbox) else { return Ok(()) };
        let (deadlines, spot) = (self.config.deadlines, self.monitor_spot(sandbox));
        let record = self.table.container(container);
        // What an ended one has left behind, the monitor kills when it forgets it.
        if !record.is_some_and(|record| record.is_over()) {
            let kill = monitor.kill(container.clone(), Signal::KILL, KillScope::All);
            match bounded_at("kill", deadlines.answer, &spot, kill).await {
                Ok(()) => {}
                Err(cause) => return gone_is_fine(cause),
            }
            self.wait_for_end(container, deadlines.kill).await;
        }
        let remove = until_ended(&monitor, container);
        bounded_at("remove", deadlines.kill, &spot, remove).await.or_else(gone_is_fine)
    }

    /// The monitor of a pod, for people who ask whom something waits for.
    pub(crate) fn monitor_spot(&self, sandbox: &SandboxId) -> Spot {
        let identity = self.table.sandbox(sandbox).and_then(|record| record.monitor);
        identity.map(monitor_spot).unwrap_or_default()
    }

    /// Waits for a container's end, for at most `patience`; whether it has ended or is gone.
    pub(crate) async fn wait_for_end(&self, id: &ContainerId, patience: Duration) -> bool {
        let Some(mut state) = self.table.watch_state(id) else { return true };
        let ended = state.wait_for(|s| matches!(s, model::State::Exited { .. }));
        // An error of the channel says that the container is gone.
        tokio::time::timeout(patience, ended).await.is_ok()
    }

    /// Ends a monitor with all that is in it: asked first, then killed.
    pub(crate) async fn end_monitor(
        &self,
        sandbox: &SandboxId,
        directory: &Path,
        identity: Option<Identity>,
    ) -> Result<(), Cause> {
        let deadlines = self.config.deadlines;
        let is_gone = match self.table.monitor(sandbox) {
            Some(monitor) => {
                let asked = bounded("shut down", deadlines.answer, monitor.shut_down()).await;
                // One that has ended by itself a moment ago need not be asked.
                let will_end = asked.or_else(gone_is_fine).is_ok();
                will_end && self.wait_for_monitor(sandbox, deadlines.kill).await
            }
            None => self.end_stranger(directory, identity).await,
        };
        let Some(identity) = identity else {
            return if is_gone { Ok(()) } else { Err(no_answer()) };
        };
        if is_gone {
            // All that was in it has ended. The kernel takes its mounts apart before it lets the process go, which is
            // some milliseconds that nobody has to wait for.
            see_to_its_end(identity, deadlines);
            return Ok(());
        }
        identity.kill().map_err(file_failed("kill the monitor of", directory))?;
        if until_dead(identity, deadlines.kill).await {
            return Ok(());
        }
        let message = format!("the monitor, process {}, outlives SIGKILL", identity.pid);
        Err(Cause::other(Class::Unavailable, message))
    }

    /// Waits until the connection to a pod's monitor has ended; whether it has.
    pub(crate) async fn wait_for_monitor(&self, sandbox: &SandboxId, patience: Duration) -> bool {
        let Some(mut monitor) = self.table.watch_monitor(sandbox) else { return true };
        tokio::time::timeout(patience, monitor.wait_for(Option::is_none)).await.is_ok()
    }

    /// Ends a monitor that nobody here talks to; whether it is gone.
    async fn end_stranger(&self, directory: &Path, identity: Option<Identity>) -> bool {
        let deadlines = self.config.deadlines;
        let found = async {
            match identity {
                Some(identity) => monitor_client::connect(directory, identity)
                    .await
                    .map(|(monitor, events, _)| (monitor, events)),
                None => monitor_client::find(directory)
                    .await
                    .map(|(monitor, events, _)| (monitor, events)),
            }
        };
        match bounded("find monitor", deadlines.answer, found).await {
            Ok((monitor, events)) => {
                let asked = bounded("shut down", deadlines.answer, monitor.shut_down()).await;
                let will_end = asked.or_else(gone_is_fine).is_ok();
                will_end && tokio::time::timeout(deadlines.kill, drained(events)).await.is_ok()
            }
            Err(cause) => match identity {
                Some(identity) => identity.has_ended(),
                // Where nobody listens, it has never been or has ended.
                None => nobody_listens(&cause),
            },
        }
    }
}

fn monitor_spot(identity: Identity) -> Spot {
    Spot::of(format!("the monitor (pid {})", identity.pid))
}

/// Whether there is no socket, or nobody at it; any other failure says nothing about that.
fn nobody_listens(cause: &Cause) -> bool {
    let Cause::Monitor(error) = cause else { return false };
    matches!(error, MonitorError::Gone)
        || matches!(
            error,
            MonitorError::Unreachable { source, .. } if matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            )
        )
}

fn no_answer() -> Cause {
    Cause::other(Class::Unavailable, "a monitor is there and does not answer")
}

/// Until the connection has ended.
async fn drained(mut events: MonitorEvents) {
    while let Some(event) = events.recv().await {
        match event {
            MonitorEvent::Exited { .. } => {}
            MonitorEvent::Gone => return,
        }
    }
}

/// Lets the monitor forget a container once it has ended there; it may be on its way to that.
async fn until_ended(monitor: &Monitor, container: &ContainerId) -> Result<(), MonitorError> {
    loop {
        match monitor.remove(container.clone()).await {
            Err(MonitorError::Refused(refusal)) if refusal.class == Class::FailedPrecondition => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            other => return other,
        }
    }
}

/// A container that its monitor does not know, and a monitor that has ended, leave nothing to do.
fn gone_is_fine(cause: Cause) -> Result<(), Cause> {
    let is_gone = matches!(&cause, Cause::Monitor(MonitorError::Gone))
        || matches!(
            &cause,
            Cause::Monitor(MonitorError::Refused(refusal)) if refusal.class == Class::NotFound
        );
    if is_gone { Ok(()) } else { Err(cause) }
}

/// Looks whether a monitor that has said all it had to say ends, and kills it if it does not.
fn see_to_its_end(identity: Identity, deadlines: Deadlines) {
    tokio::spawn(async move {
        if until_dead(identity, deadlines.answer).await {
            return;
        }
        tracing::warn!(pid = identity.pid, "a monitor that was over had to be killed");
        let killed = identity.kill();
        if let Err(error) = killed {
            tracing::warn!(pid = identity.pid, %error, "it cannot be killed");
        } else if !until_dead(identity, deadlines.kill).await {
            tracing::warn!(pid = identity.pid, "it outlives SIGKILL");
        }
    });
}

async fn until_dead(identity: Identity, patience: Duration) -> bool {
    let dead = async {
        while !identity.has_ended() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(patience, dead).await.is_ok()
}
