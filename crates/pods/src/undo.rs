//! What has been done and how it is undone.
//!
//! Always: an undo is data, so that it can be written down; undos run newest first; all are tried; what
//! stays undone is given back to be owed. Each of them succeeds for what is gone already.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;

use cgroups::CgroupPath;
use model::{ContainerId, SandboxId};
use monitor_client::Identity;
use network::Attachment;
use serde::{Deserialize, Serialize};

use crate::error::Cause;

/// One thing to undo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Undo {
    /// Take a sandbox's record away.
    ForgetSandbox(SandboxId),
    /// Take a container's record away.
    ForgetContainer(ContainerId),
    /// Delete a directory of ours with all that is in it.
    RemoveDirectory(PathBuf),
    /// Unpin a network namespace.
    RemoveNetns(SandboxId),
    /// Leave the networks.
    Detach {
        /// As they were joined.
        attachment: Box<Attachment>,
        /// What they said then.
        result: Option<serde_json::Value>,
    },
    /// Kill what is in a cgroup and remove it.
    RemoveCgroup(CgroupPath),
    /// End a monitor with all that is in it.
    EndMonitor {
        /// The pod.
        sandbox: SandboxId,
        /// Its directory, where the socket is.
        directory: PathBuf,
        /// The process, if it was written down in time.
        identity: Option<Identity>,
    },
    /// Give a container's root file system and volumes back.
    ReleaseRootfs(ContainerId),
    /// Kill a container in its monitor and let that forget it.
    RemoveFromMonitor {
        /// The pod.
        sandbox: SandboxId,
        /// The container.
        container: ContainerId,
    },
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForgetSandbox(id) => write!(f, "forget sandbox {}", id.short()),
            Self::ForgetContainer(id) => write!(f, "forget container {}", id.short()),
            Self::RemoveDirectory(path) => write!(f, "remove {}", path.display()),
            Self::RemoveNetns(id) => write!(f, "remove the network namespace of {}", id.short()),
            Self::Detach { attachment, .. } => {
                write!(f, "leave the networks of {}/{}", attachment.namespace, attachment.name)
            }
            Self::RemoveCgroup(path) => write!(f, "remove the cgroup {path}"),
            Self::EndMonitor { sandbox, .. } => write!(f, "end the monitor of {}", sandbox.short()),
            Self::ReleaseRootfs(id) => write!(f, "release the file systems of {}", id.short()),
            Self::RemoveFromMonitor { container, .. } => {
                write!(f, "remove container {} from its monitor", container.short())
            }
        }
    }
}

impl Undo {
    /// Whether this cannot be done any more after `other`.
    fn needs(&self, other: &Self) -> bool {
        let (Self::EndMonitor { directory, .. }, Self::RemoveDirectory(removed)) = (self, other)
        else {
            return false;
        };
        directory.starts_with(removed)
    }

    /// Its kind, in a word.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::ForgetSandbox(_) => "forget-sandbox",
            Self::ForgetContainer(_) => "forget-container",
            Self::RemoveDirectory(_) => "remove-directory",
            Self::RemoveNetns(_) => "remove-netns",
            Self::Detach { .. } => "detach",
            Self::RemoveCgroup(_) => "remove-cgroup",
            Self::EndMonitor { .. } => "end-monitor",
            Self::ReleaseRootfs(_) => "release-rootfs",
            Self::RemoveFromMonitor { .. } => "remove-from-monitor",
        }
    }
}

/// Whoever can undo things.
pub(crate) trait Hands: Sync {
    /// Carries one undo out, in bounded time.
    fn carry_out(&self, undo: &Undo) -> impl Future<Output = Result<(), Cause>> + Send;
}

/// What has been done, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Undos(Vec<Undo>);

impl Undos {
    /// To be called on the line after the do; before it where the do can be interrupted in the middle.
    pub(crate) fn push(&mut self, undo: Undo) {
        self.0.push(undo);
    }

    /// The monitor that is to be ended is this process, now that it is known.
    pub(crate) fn monitor_is(&mut self, process: Identity) {
        for undo in &mut self.0 {
            if let Undo::EndMonitor { identity, .. } = undo {
                *identity = Some(process);
            }
        }
    }

    /// Undoes everything, newest first; what could not be undone comes back in that order.
    pub(crate) async fn unwind(mut self, hands: &impl Hands) -> Vec<Undo> {
        self.0.reverse();
        carry_all_out(hands, self.0).await
    }
}

/// Carries all undos out in their order; what could not be carried out comes back. The directory of a monitor
/// that could not be ended stays: without the socket in it, the next attempt could not find that monitor.
pub(crate) async fn carry_all_out(hands: &impl Hands, undos: Vec<Undo>) -> Vec<Undo> {
    let mut left: Vec<Undo> = Vec::new();
    for undo in undos {
        if left.iter().any(|earlier| earlier.needs(&undo)) {
            left.push(undo);
            continue;
        }
        if let Err(cause) = hands.carry_out(&undo).await {
            tracing::warn!(error = %model::with_causes(&cause), "could not {undo}");
            left.push(undo);
        }
    }
    left
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use model::Class;

    use super::*;

    /// Hands that write down what they do and fail for what they are told to.
    #[derive(Default)]
    pub(crate) struct Noting {
        pub(crate) done: Mutex<Vec<Undo>>,
        pub(crate) failing: Mutex<Vec<Undo>>,
    }

    impl Hands for Noting {
        async fn carry_out(&self, undo: &Undo) -> Result<(), Cause> {
            self.done.lock().unwrap().push(undo.clone());
            if self.failing.lock().unwrap().contains(undo) {
                return Err(Cause::other(Class::Internal, "told to fail"));
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn undos_run_newest_first_all_are_tried_and_the_rest_is_owed() {
        let steps: Vec<Undo> =
            ["a", "b", "c", "d"].map(|p| Undo::RemoveDirectory(p.into())).to_vec();
        let hands = Noting::default();
        hands.failing.lock().unwrap().extend([steps[1].clone(), steps[2].clone()]);
        let mut undos = Undos::default();
        steps.iter().for_each(|s| undos.push(s.clone()));
        let left = undos.unwind(&hands).await;
        let done = hands.done.lock().unwrap().clone();
        assert_eq!(done, steps.iter().rev().cloned().collect::<Vec<_>>());
        assert_eq!(left, [steps[2].clone(), steps[1].clone()]);
    }

    #[tokio::test]
    async fn a_monitor_that_could_not_be_ended_keeps_its_directory_and_can_be_found_again() {
        let (directory, other) = (PathBuf::from("/run/pods/a"), PathBuf::from("/run/pods/b"));
        let end = |identity| Undo::EndMonitor {
            sandbox: SandboxId::from_random([3; 32]),
            directory: directory.clone(),
            identity,
        };
        let identity = Identity { pid: 3, start_time: 9 };
        let hands = Noting::default();
        hands.failing.lock().unwrap().push(end(Some(identity)));
        let mut undos = Undos::default();
        for path in [&other, &directory] {
            undos.push(Undo::RemoveDirectory(path.clone()));
        }
        undos.push(end(None));
        undos.monitor_is(identity);
        let left = undos.unwind(&hands).await;
        assert_eq!(left, [end(Some(identity)), Undo::RemoveDirectory(directory.clone())]);
        assert_eq!(hands.done.lock().unwrap().last(), Some(&Undo::RemoveDirectory(other)));
        hands.failing.lock().unwrap().clear();
        assert!(carry_all_out(&hands, left).await.is_empty());
    }

    #[test]
    fn an_undo_is_read_again_as_it_was_written() {
        let id = SandboxId::from_random([3; 32]);
        for undo in [
            Undo::ForgetSandbox(id.clone()),
            Undo::RemoveCgroup(CgroupPath::parse("/a/b").unwrap()),
            Undo::EndMonitor {
                sandbox: id,
                directory: "/run/x".into(),
                identity: Some(Identity { pid: 3, start_time: 9 }),
            },
        ] {
            let text = serde_json::to_string(&undo).unwrap();
            assert_eq!(serde_json::from_str::<Undo>(&text).unwrap(), undo);
        }
    }
}
