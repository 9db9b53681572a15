//! The contents of a container's /dev, made by descriptor on a file system that has no place yet.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Component, Path};

use runtime_spec::LinuxDevice;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mkdirat, mknodat, openat,
    symlinkat,
};
use rustix::io::Errno;

use crate::error::Failure;
use crate::paths::{Owner, give};
use crate::users::Users;

/// The devices that every container has ("Default Devices" of the runtime specification).
const STANDARD: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Fills `dev`: the standard devices and links, and `more`, whose paths begin with `/dev/`.
///
/// The caller's file mode creation mask must be 0.
pub(crate) fn populate(
    dev: BorrowedFd<'_>,
    more: &[LinuxDevice],
    users: Option<Users<'_>>,
) -> Result<(), Failure> {
    let owner = users.map(Users::root);
    // One that is asked for by the name of a standard one is that one here.
    let is_given =
        |name: &str| more.iter().any(|device| device.path == Path::new("/dev").join(name));
    for (name, major, minor) in STANDARD.into_iter().filter(|(name, ..)| !is_given(name)) {
        mknodat(
            dev,
            name,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            makedev(major, minor),
        )
        .and_then(|()| give(dev, name.as_ref(), owner))
        .map_err(Failure::at(format!("make the device {name}")))?;
    }
    for (name, target) in LINKS {
        make_link(dev, name, target)?;
    }
    more.iter().try_for_each(|device| extra(dev, device, users))
}

fn extra(
    dev: BorrowedFd<'_>,
    device: &LinuxDevice,
    users: Option<Users<'_>>,
) -> Result<(), Failure> {
    let shown = device.path.display();
    let at = |what: &str| format!("{what} the device {shown}");
    let relative = device
        .path
        .strip_prefix("/dev")
        .map_err(|_| Failure::new(at("place"), "it must be below /dev"))?;
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => {
            return Err(Failure::new(at("make"), format!("{other:?} is not a kind of device")));
        }
    };
    let number = |n: i64| {
        u32::try_from(n).map_err(|_| Failure::new(at("make"), format!("{n} is no device number")))
    };
    let parent = parent_of(dev, relative, users.map(Users::root))?;
    let parent = parent.as_fd();
    let name = relative.file_name().ok_or_else(|| Failure::new(at("place"), "it has no name"))?;
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    match mknodat(parent, name, kind, mode, makedev(number(device.major)?, number(device.minor)?)) {
        // One of the standard links, which a host has as a device, or the same device twice.
        Err(Errno::EXIST) => return Ok(()),
        other => other.map_err(Failure::at(at("make")))?,
    }
    let (uid, gid) = match users {
        None => (device.uid, device.gid),
        Some(users) => {
            (Some(users.uid(device.uid.unwrap_or(0))?), Some(users.gid(device.gid.unwrap_or(0))?))
        }
    };
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(Failure::at(at("give away")))
}

/// The directory that `relative` lies in, made step by step; this file system has no links that lead away.
fn parent_of(
    dev: BorrowedFd<'_>,
    relative: &Path,
    owner: Owner,
) -> Result<std::os::fd::OwnedFd, Failure> {
    let mut here =
        dev.try_clone_to_owned().map_err(Failure::at("duplicate a descriptor of /dev"))?;
    for component in relative.parent().unwrap_or(Path::new("")).components() {
        let Component::Normal(name) = component else {
            return Err(Failure::new(
                format!("place the device {}", relative.display()),
                "its path is not plain",
            ));
        };
        match mkdirat(&here, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => give(here.as_fd(), name, owner)
                .map_err(Failure::at(format!("make the directory of {}", relative.display())))?,
            Err(Errno::EXIST) => {}
            Err(e) => {
                return Err(Failure::at(format!("make the directory of {}", relative.display()))(
                    e,
                ));
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        here = openat(&here, name, flags, Mode::empty())
            .map_err(Failure::at(format!("open the directory of {}", relative.display())))?;
    }
    Ok(here)
}

pub(crate) fn make_dir(at: BorrowedFd<'_>, name: &str) -> Result<(), Failure> {
    mkdirat(at, name, Mode::from_raw_mode(0o755))
        .map_err(Failure::at(format!("make the directory {name}")))
}

pub(crate) fn make_link(at: BorrowedFd<'_>, name: &str, target: &str) -> Result<(), Failure> {
    symlinkat(target, at, name).map_err(Failure::at(format!("make the link {name}")))
}
