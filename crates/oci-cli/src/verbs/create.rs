//! `create`: a container whose process waits for its start.

use sys::SingleThreaded;

use crate::args::Invocation;
use crate::error::OciError;
use crate::{end, keeper, launch};

pub(super) fn create(proof: &SingleThreaded, line: &Invocation) -> Result<u8, OciError> {
    let launch::Created { child, control, listener, runtime, .. } =
        launch::create(proof, line, launch::Starter::Later)?;
    let Some(listener) = listener else { return Ok(0) };
    keeper::leave(proof, &listener, control, &runtime).inspect_err(|_| {
        // Its control socket has gone with the error, so its process ends by itself.
        end::clear(proof, line, &runtime, &child.pidfd);
    })?;
    Ok(0)
}
