//! `delete`: nothing of a container is left.

use sys::SingleThreaded;

use crate::args::Invocation;
use crate::end;
use crate::error::OciError;
use crate::record::{Directory, Status};

pub(super) fn delete(proof: &SingleThreaded, line: &Invocation) -> Result<u8, OciError> {
    let force = line.has("force");
    let (directory, record) = match super::find(line) {
        // One that was never whole has a directory and no record.
        Err(OciError::NoSuchContainer(_)) if force => {
            Directory::of(&line.root, line.id()?).remove()?;
            return Ok(0);
        }
        found => found?,
    };
    match record.status(&directory) {
        status @ (Status::Creating | Status::Running | Status::Paused) if !force => {
            Err(OciError::WrongState {
                what: format!("delete the container {}", record.id),
                problem: format!("it is {}, not stopped", status.as_str()),
            })
        }
        // A created one has run nothing yet.
        Status::Creating | Status::Running | Status::Paused | Status::Created | Status::Stopped => {
            end::remove(proof, line, None, &directory, &record).map(|()| 0)
        }
    }
}
