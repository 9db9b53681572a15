//! The names of block devices.
//!
//! Always: only files of the kernel are read, which do not wait for any device.

use std::fs;

/// The file in /dev of a block device, `/dev/sda`; its numbers, `8:0`, where it has none.
pub(crate) fn name((major, minor): (u32, u32)) -> String {
    let path = format!("/sys/dev/block/{major}:{minor}/uevent");
    let event = fs::read_to_string(path).unwrap_or_default();
    of_event(&event).unwrap_or_else(|| format!("{major}:{minor}"))
}

/// What a file system on this device is called by: the device's file, else what it was mounted from.
pub(crate) fn of_file_system(device: (u32, u32)) -> String {
    let (numbers, own) = (format!("{}:{}", device.0, device.1), name(device));
    if own != numbers {
        return own;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    source(&mounts, &numbers).unwrap_or(numbers)
}

fn of_event(event: &str) -> Option<String> {
    let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(format!("/dev/{name}"))
}

/// What the first mount of a device was mounted from (proc_pid_mountinfo(5)).
fn source(mounts: &str, numbers: &str) -> Option<String> {
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(numbers))?;
    let source = line.split_once(" - ")?.1.split(' ').nth(1)?;
    Some(source.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_the_name_of_its_file_and_what_has_none_its_numbers() {
        let event = "MAJOR=8\nMINOR=1\nDEVNAME=sda1\nDEVTYPE=partition\n";
        assert_eq!(of_event(event).unwrap(), "/dev/sda1");
        assert_eq!(of_event("MAJOR=8\n"), None);
        assert_eq!(name((u32::MAX, 0)), format!("{}:0", u32::MAX));
    }

    #[test]
    fn a_file_system_without_a_device_is_called_by_what_it_was_mounted_from() {
        let mounts = "29 1 0:26 / /run rw shared:5 - tmpfs tmp rw,size=1k\n\
                      30 1 0:27 / /data rw - nfs4 server:/export rw\n";
        assert_eq!(source(mounts, "0:27").unwrap(), "server:/export");
        assert_eq!(source(mounts, "0:2"), None);
        let proc = rustix::fs::stat("/proc").unwrap().st_dev;
        let proc = (rustix::fs::major(proc), rustix::fs::minor(proc));
        assert_eq!(of_file_system(proc), "proc");
    }
}
