//! Room for images and records.

use std::path::Path;

use rustix::fs::{StatVfs, statvfs};

use super::finding::Finding;
use crate::config::{Config, with_project_quotas};

/// What a directory is for, and how much room is little there, and too little.
struct Place<'a> {
    what: &'static str,
    path: &'a Path,
    little: Room,
    none: Room,
    advice: &'static str,
}

/// Bytes and inodes.
#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: u64,
    inodes: u64,
}

/// The kind of file system that a tmpfs says it is (statfs(2)).
const TMPFS: i64 = 0x0102_1994;

pub fn look(config: &Config) -> Vec<Finding> {
    let images = Place {
        what: "images",
        path: &config.root,
        little: Room { bytes: 5 << 30, inodes: 10_000 },
        none: Room { bytes: 200 << 20, inodes: 1000 },
        advice: "`isopod imagefsinfo` and `isopod images` show what is used; `isopod rmi` makes room",
    };
    // A pod has some thirty kilobytes there, and fifteen inodes.
    let records = Place {
        what: "records",
        path: &config.state,
        little: Room { bytes: 16 << 20, inodes: 1000 },
        none: Room { bytes: 128 << 10, inodes: 20 },
        advice: "see what else is on that file system; a tmpfs takes more by a larger size= or nr_inodes=",
    };
    let mut findings = vec![room(&images), room(&records), on_memory(&config.state)];
    findings.extend(limited(config));
    findings
}

/// The nearest directory above that is there.
fn there(path: &Path) -> &Path {
    path.ancestors().find(|one| one.is_dir()).unwrap_or(Path::new("/"))
}

fn room(place: &Place<'_>) -> Finding {
    match statvfs(there(place.path)) {
        Ok(of) => graded(place, &of),
        Err(error) => {
            let said = format!("{} cannot be looked at: {error}", place.path.display());
            Finding::bad("disk", said, "see what is mounted there")
        }
    }
}

fn graded(place: &Place<'_>, of: &StatVfs) -> Finding {
    let Place { what, path, little, none, advice } = *place;
    // One without a limit, as a tmpfs may be, counts no blocks; one that makes inodes as it needs them counts none.
    let free = if of.f_blocks == 0 { u64::MAX } else { of.f_bavail.saturating_mul(of.f_frsize) };
    let inodes = if of.f_files == 0 { u64::MAX } else { of.f_favail };
    let amount = match free {
        u64::MAX => "unlimited bytes".to_owned(),
        little if little < 10 << 20 => format!("{} KiB", little >> 10),
        free => format!("{} MiB", free >> 20),
    };
    let counted =
        if of.f_files == 0 { String::new() } else { format!(" and {} inodes", of.f_favail) };
    let said = format!("{amount}{counted} are free for {what} at {}", path.display());
    let is_less = |than: Room| free < than.bytes || inodes < than.inodes;
    if is_less(none) {
        Finding::bad("disk", said, advice)
    } else if is_less(little) {
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

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    fn of(free: u64, inodes: Option<u64>) -> StatVfs {
        StatVfs {
            f_bsize: 4096,
            f_frsize: 4096,
            f_blocks: if free == 0 { 0 } else { 1 << 20 },
            f_bfree: free / 4096,
            f_bavail: free / 4096,
            f_files: inodes.map_or(0, |_| 100_000),
            f_ffree: inodes.unwrap_or(0),
            f_favail: inodes.unwrap_or(0),
            f_fsid: 0,
            f_flag: rustix::fs::StatVfsMountFlags::empty(),
            f_namemax: 255,
        }
    }

    #[test]
    fn room_is_graded_by_what_it_is_for() {
        let records = Place {
            what: "records",
            path: Path::new("/there"),
            little: Room { bytes: 16 << 20, inodes: 1000 },
            none: Room { bytes: 128 << 10, inodes: 20 },
            advice: "what helps",
        };
        for (free, inodes, grade, said) in [
            (17 << 20, Some(5000), Grade::Good, "17 MiB and 5000 inodes are free"),
            (17 << 20, None, Grade::Good, "17 MiB are free"),
            (9 << 20, Some(5000), Grade::Warning, "9216 KiB and 5000 inodes are free"),
            (17 << 20, Some(999), Grade::Warning, "17 MiB and 999 inodes are free"),
            (17 << 20, Some(5), Grade::Bad, "17 MiB and 5 inodes are free"),
            (64 << 10, None, Grade::Bad, "64 KiB are free"),
            (0, None, Grade::Good, "unlimited bytes are free"),
        ] {
            let found = graded(&records, &of(free, inodes));
            assert_eq!((found.grade, found.said), (grade, format!("{said} for records at /there")));
            assert_eq!(found.advice, if grade == Grade::Good { "" } else { "what helps" });
        }
    }
}
