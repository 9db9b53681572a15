//! `state`: what a container is at, as the runtime specification writes it.

use serde_json::{Value, json};

use crate::args::Invocation;
use crate::error::OciError;
use crate::record::{Directory, Record, Status};

pub(super) fn state(line: &Invocation) -> Result<u8, OciError> {
    let (directory, record) = super::find(line)?;
    let shown = serde_json::to_string_pretty(&shown(&directory, &record));
    super::print(&format!("{}\n", shown.map_err(OciError::json("the state"))?))
}

/// The state; `rootfs`, `created` and `owner` are runc's.
pub(super) fn shown(directory: &Directory, record: &Record) -> Value {
    let status = record.status(directory);
    let pid = if status == Status::Stopped { 0 } else { record.pid };
    json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": pid,
        "status": status.as_str(),
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "annotations": record.annotations,
        "owner": "",
    })
}
