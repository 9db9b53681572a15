//! The directory that `isopod run` makes for each pod: its logs and its volumes.
//!
//! Always: below one root, named by the pod's uid, which is nothing but hex digits and dashes; so
//! what a pod says of itself never leads anywhere else.

use std::io;
use std::path::PathBuf;

use crate::cli::failure::{Doing, Failure};

/// Where the pods' directories are.
const ROOT: &str = "/var/lib/isopod-run";
/// Names another root.
const ROOT_VARIABLE: &str = "ISOPOD_RUN_DIR";

/// A uid for a new pod.
pub fn new_uid() -> Result<String, Failure> {
    let uid = std::fs::read_to_string("/proc/sys/kernel/random/uuid");
    Ok(uid.doing("make a unique id")?.trim().to_owned())
}

/// The directory of the pod with this uid.
pub fn of(uid: &str) -> PathBuf {
    let named = std::env::var_os(ROOT_VARIABLE).filter(|root| !root.is_empty());
    named.map_or_else(|| PathBuf::from(ROOT), PathBuf::from).join(uid)
}

/// Removes the directory of the pod with this uid; there is none of a pod that others made.
pub fn forget(uid: &str) -> Result<(), Failure> {
    let is_uid = uid.len() == 36 && uid.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    if !is_uid {
        return Ok(());
    }
    let directory = of(uid);
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(format!("remove {}", directory.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
