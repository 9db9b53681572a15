//! `pause` and `resume`.

use cgroups::Cgroup;

use crate::args::Invocation;
use crate::error::OciError;
use crate::record::{Record, Status};

pub(super) fn pause(line: &Invocation) -> Result<u8, OciError> {
    let (directory, record) = super::find(line)?;
    match record.status(&directory) {
        Status::Running => cgroup(&record)?.freeze()?,
        // A created one waits already, and could not be started while it stands still.
        status @ (Status::Creating | Status::Created | Status::Paused | Status::Stopped) => {
            return Err(wrong("pause", &record, status));
        }
    }
    Ok(0)
}

pub(super) fn resume(line: &Invocation) -> Result<u8, OciError> {
    let (directory, record) = super::find(line)?;
    match record.status(&directory) {
        Status::Paused => cgroup(&record)?.thaw()?,
        status @ (Status::Creating | Status::Created | Status::Running | Status::Stopped) => {
            return Err(wrong("resume", &record, status));
        }
    }
    Ok(0)
}

fn cgroup(record: &Record) -> Result<Cgroup, OciError> {
    record.cgroup()?.ok_or_else(|| OciError::WrongState {
        what: format!("find the cgroup of the container {}", record.id),
        problem: "it has none".to_owned(),
    })
}

fn wrong(verb: &str, record: &Record, status: Status) -> OciError {
    OciError::WrongState {
        what: format!("{verb} the container {}", record.id),
        problem: format!("it is {}", status.as_str()),
    }
}
