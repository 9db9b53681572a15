//! `start`: a created container becomes its program.

use launcher::Phase;
use sys::SingleThreaded;

use crate::args::Invocation;
use crate::error::OciError;
use crate::record::Status;
use crate::{end, hooks, keeper};

pub(super) fn start(proof: &SingleThreaded, line: &Invocation) -> Result<u8, OciError> {
    let (directory, record) = super::find(line)?;
    match record.status(&directory) {
        Status::Created => match keeper::ask(&directory, record.hooks().time_to_start()) {
            Ok(()) => {
                hooks::started(proof, line, None, &record);
                Ok(0)
            }
            Err(OciError::Launch(error)) if error.phase == Phase::Hooks => {
                // What a failed hook refuses is destroyed ("Lifecycle", step 7). The hook's failure was first.
                let _ = end::remove(proof, line, None, &directory, &record);
                Err(error.into())
            }
            Err(error) => Err(error),
        },
        status @ (Status::Creating | Status::Running | Status::Paused | Status::Stopped) => {
            Err(OciError::WrongState {
                what: format!("start the container {}", record.id),
                problem: format!("it is {}, not created", status.as_str()),
            })
        }
    }
}
