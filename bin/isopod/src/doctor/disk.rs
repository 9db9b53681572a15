//! Room for images and records.

use std::path::Path;

use rustix::fs::{StatVfs, statvfs};

use super::finding::Finding;
use crate::config::{Config, with_project_quotas};

/// Free bytes and the part of free inodes, under which there is little room, and no room.
const LITTLE: u64 = 5 << 30;
const NONE: u64 = 200 << 20;

/// The kind of file system that a tmpfs says it is (statfs(2)).
const TMPFS: i64 = 0x0102_1994;

pub fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![room("images", &config.root, LITTLE)];
    findings.push(room("records", &config.state, 64 << 20));
    findings.push(on_memory(&config.state));
    findings.extend(limited(config));
    findings
}

/// The nearest directory above that is there.
fn there(path: &Path) -> &Path {
    path.ancestors().find(|one| one.is_dir()).unwrap_or(Path::new("/"))
}

fn room(what: &str, path: &Path, little: u64) -> Finding {
    match statvfs(there(path)) {
        Ok(of) => graded(what, path, &of, little),
        Err(error) => {
            let said = format!("{} cannot be looked at: {error}", path.display());
            Finding::bad("disk", said, "see what is mounted there")
        }
    }
}

fn graded(what: &str, path: &Path, of: &StatVfs, little: u64) -> Finding {
    let free = of.f_bavail.saturating_mul(of.f_frsize);
    let inodes = of.f_files == 0 || of.f_favail.saturating_mul(50) > of.f_files;
    let said = format!(
        "{} MiB and {} inodes are free for {what} at {}",
        free >> 20,
        of.f_favail,
        path.display()
    );
    let advice =
        "`isopod imagefsinfo` and `isopod images` show what is used; `isopod rmi` makes room";
    if free < NONE.min(little) {
        Finding::bad("disk", said, advice)
    } else if free < little || !inodes {
        Finding::warning("disk", said, advice)
    } else {
        Finding::good("disk", said)
    }
}

/// Whether the limits of writable layers are kept, where there are any.
fn limited(config: &Config) -> Option<Finding> {
    let writable = config.containers.writable;
    writable.size.or(writable.max)?;
    Some(match with_project_quotas(&config.root) {
        Ok(()) => Finding::good("disk", "writable layers are limited by project quotas"),
        Err(problem) => {
            let said = format!("writable layers are not limited: {problem}");
            let advice = "mount it so, or take pods.writable_size and pods.writable_max out";
            Finding::warning("disk", said, advice)
        }
    })
}

fn on_memory(state: &Path) -> Finding {
    let kind = rustix::fs::statfs(there(state)).map(|of| of.f_type);
    if kind.is_ok_and(|kind| kind == TMPFS) {
        return Finding::good("disk", format!("records at {} are in memory", state.display()));
    }
    let said = format!("records at {} are not on a tmpfs", state.display());
    let advice = "records of pods mean nothing after a reboot; set state to a directory below /run";
    Finding::warning("disk", said, advice)
}
