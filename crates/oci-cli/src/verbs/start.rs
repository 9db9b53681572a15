//! `start`: a created container becomes its program.

use crate::args::Invocation;
use crate::error::OciError;
use crate::keeper;
use crate::record::Status;

pub(super) fn start(line: &Invocation) -> Result<u8, OciError> {
    let (directory, record) = super::find(line)?;
    match record.status(&directory) {
        Status::Created => keeper::ask(&directory).map(|()| 0),
        status @ (Status::Running | Status::Paused | Status::Stopped) => {
            Err(OciError::WrongState {
                what: format!("start the container {}", record.id),
                problem: format!("it is {}, not created", status.as_str()),
            })
        }
    }
}
