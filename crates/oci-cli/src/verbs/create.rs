//! `create`: a container whose process waits for its start.

use sys::SingleThreaded;

use crate::args::Invocation;
use crate::error::OciError;
use crate::{keeper, launch};

pub(super) fn create(proof: &SingleThreaded, line: &Invocation) -> Result<u8, OciError> {
    let launch::Created { directory, child, control, host_mounts } = launch::create(proof, line)?;
    keeper::leave(proof, &directory, control, &host_mounts).inspect_err(|_| {
        // Its control socket has gone with the error, so its process ends by itself.
        super::delete::clear(line, &child.pidfd);
    })?;
    Ok(0)
}
