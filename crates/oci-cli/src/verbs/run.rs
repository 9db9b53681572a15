//! `run`: create and start, and, unless it is to go on by itself, wait and delete.

use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, poll};
use sys::SingleThreaded;

use crate::args::Invocation;
use crate::error::OciError;
use crate::record::Directory;
use crate::{end, hooks, keeper, launch};

pub(super) fn run(proof: &SingleThreaded, line: &Invocation) -> Result<u8, OciError> {
    let launch::Created { child, control, runtime, record, .. } =
        launch::create(proof, line, launch::Starter::Caller)?;
    if let Err(error) = keeper::start(&control) {
        end::clear(proof, line, &runtime, &child.pidfd);
        return Err(error.into());
    }
    hooks::started(proof, line, Some(&runtime), &record);
    if line.has("detach") {
        return Ok(0);
    }
    let code = wait(&child.pidfd)?;
    if !line.has("keep") {
        let directory = Directory::of(&line.root, &record.id);
        end::remove(proof, line, Some(&runtime), &directory, &record)?;
    }
    Ok(code)
}

/// The exit code of a child, as a shell gives it.
pub(super) fn wait(process: &std::os::fd::OwnedFd) -> Result<u8, OciError> {
    let failed = || OciError::io::<std::io::Error>("wait for the container's process");
    loop {
        if let Some(code) = sys::wait_exit(process.as_fd()).map_err(failed())? {
            return Ok(u8::try_from(code).unwrap_or(u8::MAX));
        }
        // Interrupted by a signal it looks again.
        let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], None);
    }
}
