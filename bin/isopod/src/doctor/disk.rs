//! Room for images and records.

use std::path::Path;

use rustix::fs::{StatVfs, statvfs};

use super::finding::Finding;
use crate::config::{Config, with_project_quotas};

/// What a directory is for, and how many free bytes are little, and too few.
struct Place<'a> {
    what: &'static str,
    path: &'a Path,
    little: u64,
    none: u64,
    advice: &'static str,
}

/// The kind of file system that a tmpfs says it is (statfs(2)).
const TMPFS: i64 = 0x0102_1994;

pub fn look(config: &Config) -> Vec<Finding> {
    let images = Place {
        what: "images",
        path: &config.root,
        little: 5 << 30,
        none: 200 << 20,
        advice: "`isopod imagefsinfo` and `isopod images` show what is used; `isopod rmi` makes room",
    };
    // A pod has some ten kilobytes there, and its sockets.
    let records = Place {
        what: "records",
        path: &config.state,
        little: 16 << 20,
        none: 1 << 20,
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
    let free = of.f_bavail.saturating_mul(of.f_frsize);
    let inodes = of.f_files == 0 || of.f_favail.saturating_mul(50) > of.f_files;
    let said = format!(
        "{} MiB and {} inodes are free for {what} at {}",
        free >> 20,
        of.f_favail,
        path.display()
    );
    if free < none {
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

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    fn of(free: u64, inodes: u64) -> StatVfs {
        StatVfs {
            f_bsize: 4096,
            f_frsize: 4096,
            f_blocks: 1 << 20,
            f_bfree: free / 4096,
            f_bavail: free / 4096,
            f_files: 1000,
            f_ffree: inodes,
            f_favail: inodes,
            f_fsid: 0,
            f_flag: rustix::fs::StatVfsMountFlags::empty(),
            f_namemax: 255,
        }
    }

    #[test]
    fn room_is_graded_by_what_it_is_for() {
        let place = |little, none| Place {
            what: "records",
            path: Path::new("/there"),
            little,
            none,
            advice: "what helps",
        };
        let records = place(16 << 20, 1 << 20);
        for (free, inodes, grade) in [
            (17 << 20, 500, Grade::Good),
            (15 << 20, 500, Grade::Warning),
            (17 << 20, 10, Grade::Warning),
            (512 << 10, 500, Grade::Bad),
        ] {
            let found = graded(&records, &of(free, inodes));
            assert_eq!(found.grade, grade, "{free} {inodes}");
            let advice = if grade == Grade::Good { "" } else { "what helps" };
            assert_eq!(found.advice, advice);
            assert!(found.said.contains("for records at /there"), "{}", found.said);
        }
    }
}
