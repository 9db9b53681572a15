//! A container's hooks, run by the verb that they belong to, which waits for them a bounded time.
//!
//! `startContainer` is the launched process's own.

use std::os::fd::AsFd as _;

use launcher::{HookPlan, LaunchError, Phase, Point, RuntimeNamespaces};
use rustix::process::Pid;
use sys::{Child, SingleThreaded};

use crate::args::Invocation;
use crate::error::OciError;
use crate::record::Record;
use crate::report;

/// Has the hooks run that `child` waits for, until one fails or `child` has ended.
pub(crate) fn prepare(
    proof: &SingleThreaded,
    hooks: &HookPlan,
    runtime: &RuntimeNamespaces,
    child: &Child,
) -> Result<(), OciError> {
    let errand = hooks.prepare(proof, runtime, child.pid, child.pidfd.as_fd());
    let errand = errand.map_err(OciError::io("send a process out to run the hooks"))?;
    let done = errand.wait(Some(child.pidfd.as_fd()));
    done.map_err(|message| LaunchError { phase: Phase::Hooks, message, errno: None }.into())
}

/// Has the hooks told that the container has become its program.
pub(crate) fn started(
    proof: &SingleThreaded,
    line: &Invocation,
    runtime: Option<&RuntimeNamespaces>,
    record: &Record,
) {
    let pid = record.process().and_then(|_| Pid::from_raw(record.pid));
    tell(proof, line, runtime, record, Point::Started(pid));
}

/// Has the hooks told that nothing of the container is left.
pub(crate) fn removed(
    proof: &SingleThreaded,
    line: &Invocation,
    runtime: Option<&RuntimeNamespaces>,
    record: &Record,
) {
    tell(proof, line, runtime, record, Point::Removed);
}

/// A failure is a warning here. Without `runtime` this process is where the runtime is.
fn tell(
    proof: &SingleThreaded,
    line: &Invocation,
    runtime: Option<&RuntimeNamespaces>,
    record: &Record,
    at: Point,
) {
    let hooks = record.hooks();
    let send = || match runtime {
        Some(runtime) => hooks.tell(proof, runtime, at),
        None => hooks.tell(proof, &RuntimeNamespaces::of_this()?, at),
    };
    let done = match send() {
        Ok(errand) => errand.map_or(Ok(()), |errand| errand.wait(None)),
        Err(error) => Err(error.to_string()),
    };
    if let Err(why) = done {
        report::warn(line, &format!("container {}: {}: {why}", record.id, at.name()));
    }
}
