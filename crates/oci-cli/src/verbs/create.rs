//! `create`: a container whose process waits for its start.

use sys::SingleThreaded;

use crate::args::Invocation;
use crate::error::OciError;
use crate::{keeper, launch};

pub(super) fn create(proof: &SingleThreaded, line: &Invocation) -> Result<u8, OciError> {
    let launch::Created { child, control, listener, host_mounts } =
        launch::create(proof, line, launch::Starter::Later)?;
    let Some(listener) = listener else { return Ok(0) };
    keeper::leave(proof, &listener, control, &host_mounts).inspect_err(|_| {
        // Its control socket has gone with the error, so its process ends by itself.
        super::delete::clear(line, &child.pidfd);
    })?;
    Ok(0)
}
