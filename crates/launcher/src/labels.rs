//! Labels that security modules give a process when it becomes its program.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::attach::{PROC_MAGIC, is_on};
use crate::error::Failure;
use crate::plan::ProcessPlan;

/// Sets what this process, or the one that it hands its place to, will be labelled with by execve. It is
/// written through the host's own proc, before anything of the container's is entered.
pub(crate) fn set_for_exec(process: &ProcessPlan) -> Result<(), Failure> {
    if let Some(profile) = &process.apparmor_profile {
        let own = "/proc/thread-self/attr/apparmor/exec";
        // Linux before 5.8 has one set of files for whichever module is first.
        let path = if std::path::Path::new(own).exists() { own } else { COMMON };
        write(path, &format!("exec {profile}"), "AppArmor profile", profile)?;
    }
    if let Some(label) = &process.selinux_label {
        write(COMMON, label, "SELinux label", label)?;
    }
    Ok(())
}

const COMMON: &str = "/proc/thread-self/attr/exec";

fn write(path: &str, value: &str, kind: &str, shown: &str) -> Result<(), Failure> {
    let what = || format!("set the {kind} {shown}");
    let file = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::at(what()))?;
    if !is_on(file.as_fd(), PROC_MAGIC).map_err(Failure::at(what()))? {
        return Err(Failure::new(what(), format!("{path} is not on a proc file system")));
    }
    File::from(file).write_all(value.as_bytes()).map_err(Failure::at(what()))
}
