//! AppArmor profiles: which ones the kernel has, and the default one, made and loaded where it has not.
//!
//! Always: a container that asks for a profile gets it or an error, never another one or none. What is looked
//! at may hang, so it is looked at away from the async threads.

use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use model::{Class, Profile};

use crate::error::Cause;
use crate::pods::file_failed;

/// The profile that is made here. Any other name in the configuration is one that the node's owner loads.
pub(crate) const GENERATED: &str = "isopod-default";

/// The kernel's list of loaded profiles.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
/// Where the compiler of profiles may be; only it can make what the kernel loads.
const PARSERS: [&str; 3] =
    ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser", "/usr/bin/apparmor_parser"];
/// The most that is read of either.
const TEXT_MAX: u64 = 4 << 20;

/// What there is of AppArmor on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Apparmor {
    loaded: PathBuf,
    parsers: Vec<PathBuf>,
    /// One loads at a time.
    loading: Arc<Mutex<()>>,
}

impl Apparmor {
    pub(crate) fn of_this_machine() -> Self {
        Self {
            loaded: LOADED.into(),
            parsers: PARSERS.map(PathBuf::from).to_vec(),
            loading: Arc::default(),
        }
    }

    /// Sees to it that `profile` can be given to a process; `default` is the name of the runtime's own.
    pub(crate) fn provide(&self, profile: &Profile, default: Option<&str>) -> Result<(), Cause> {
        let name = match profile {
            Profile::Unconfined => return Ok(()),
            Profile::Localhost(name) => name.as_str(),
            Profile::RuntimeDefault => match default {
                Some(GENERATED) => return self.provide_generated(),
                Some(name) => name,
                None => return Ok(()),
            },
        };
        if self.is_loaded(name)? {
            return Ok(());
        }
        let message = format!("the AppArmor profile {name:?} is not loaded on this node");
        Err(Cause::other(Class::FailedPrecondition, message))
    }

    fn provide_generated(&self) -> Result<(), Cause> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_loaded(GENERATED)? {
            return Ok(());
        }
        let failed = |why: String| {
            let message = format!("cannot load the AppArmor profile {GENERATED}: {why}");
            Cause::other(Class::FailedPrecondition, message)
        };
        let Some(parser) = self.parsers.iter().find(|path| path.exists()) else {
            return Err(failed("apparmor_parser is not installed".to_owned()));
        };
        load(parser).map_err(|e| failed(e.to_string()))?;
        if self.is_loaded(GENERATED)? {
            return Ok(());
        }
        Err(failed(format!("{} has loaded something else", parser.display())))
    }

    /// Whether the kernel has a profile of this name, in whatever mode.
    fn is_loaded(&self, name: &str) -> Result<bool, Cause> {
        let read = || -> io::Result<String> {
            let mut text = String::new();
            fs::File::open(&self.loaded)?.take(TEXT_MAX).read_to_string(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(file_failed("read the AppArmor profiles in", &self.loaded))?;
        Ok(names(&text).any(|known| known == name))
    }
}

/// Lines are `name (mode)`; a name may have blanks and parentheses itself.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.rsplit_once(" (").map(|(name, _)| name))
}

/// Gives the profile to the parser on its standard input. It reads and writes no cache, so that nothing of an
/// earlier version is loaded.
fn load(parser: &Path) -> io::Result<()> {
    let mut text = memory_file("apparmor-profile")?;
    text.write_all(profile(GENERATED).as_bytes())?;
    text.rewind()?;
    let mut said = memory_file("apparmor-parser")?;
    let status = Command::new(parser)
        .args(["--replace", "--skip-cache", "--quiet"])
        .stdin(Stdio::from(OwnedFd::from(text)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(OwnedFd::from(said.try_clone()?)))
        .status()?;
    if status.success() {
        return Ok(());
    }
    let mut why = String::new();
    said.rewind()?;
    said.take(1024).read_to_string(&mut why)?;
    Err(io::Error::other(format!("{} {status}: {}", parser.display(), why.trim())))
}

fn memory_file(name: &str) -> io::Result<fs::File> {
    Ok(fs::File::from(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?))
}

/// What the default profile allows: what a container does is left to its capabilities, its filter and its
/// namespaces. Processes of other containers with the same profile are only seen where the namespace is shared,
/// so that they may be signalled and traced.
const ALLOWED: [&str; 7] = [
    "capability,",
    "network,",
    "file,",
    "umount,",
    "signal (receive) peer=unconfined,",
    "signal (send, receive) peer=PROFILE,",
    "ptrace (trace, read, tracedby, readby) peer=PROFILE,",
];

/// What it denies although a capability may allow it: mounts, and files that reach the host. Of /proc/sys only
/// what belongs to a namespace can be written.
const DENIED: [&str; 14] = [
    "mount,",
    "/proc/{sysrq-trigger,kcore,kmem,mem} rwklx,",
    "/proc/{acpi,asound,bus,fs,irq,scsi}/** w,",
    "/proc/{sched_debug,timer_list,timer_stats} w,",
    "/proc/sys/{abi,debug,dev,user,vm}/** w,",
    "/proc/sys/fs/[^m]** w,",
    "/proc/sys/kernel/{core_*,hotplug,kexec_*,modprobe,modules_disabled,poweroff_cmd} w,",
    "/proc/sys/kernel/{bpf_*,dmesg_*,kptr_*,panic*,perf_*,printk*,randomize_*,sysrq} w,",
    "/proc/sys/kernel/{ns_last_pid,pid_max,threads-max,unprivileged_*,watchdog*} w,",
    "/proc/sys/kernel/{firmware_config,keys,random,seccomp,usermodehelper,yama}/** w,",
    "/sys/{block,bus,class,dev,devices,hypervisor,kernel,module,power}/** wklx,",
    "/sys/firmware/** rwklx,",
    "/sys/kernel/{debug,security,tracing}/** rwklx,",
    "/sys/fs/[^c]** wklx,",
];

/// The default profile (apparmor.d(5)).
fn profile(name: &str) -> String {
    let mut text = format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{\n");
    let denied = DENIED.iter().map(|rule| format!("deny {rule}"));
    for rule in ALLOWED.iter().map(ToString::to_string).chain(denied) {
        text.push_str("  ");
        text.push_str(&rule.replace("PROFILE", name));
        text.push('\n');
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const SOME: &str = "/usr/bin/man (enforce)\nmine (complain)\nmine (too) (enforce)\n";

    fn machine(dir: &Path, parser: Option<&str>) -> Apparmor {
        let loaded = dir.join("profiles");
        fs::write(&loaded, SOME).unwrap();
        let path = dir.join("apparmor_parser");
        if let Some(script) = parser {
            let script = format!("#!/bin/sh\ncd {}\n{script}\n", dir.display());
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Apparmor { loaded, parsers: vec![path], loading: Arc::default() }
    }

    fn localhost(name: &str) -> Profile {
        Profile::Localhost(name.to_owned())
    }

    #[test]
    fn a_named_profile_must_be_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let machine = machine(dir.path(), None);
        for good in ["mine", "mine (too)", "/usr/bin/man"] {
            machine.provide(&localhost(good), None).unwrap();
        }
        let error = machine.provide(&localhost("min"), None).unwrap_err();
        assert!(error.to_string().contains("\"min\" is not loaded"), "{error}");
        machine.provide(&Profile::RuntimeDefault, Some("mine")).unwrap();
        assert!(machine.provide(&Profile::RuntimeDefault, Some("other")).is_err());
        machine.provide(&Profile::Unconfined, Some("other")).unwrap();
        let gone = Apparmor { loaded: dir.path().join("gone"), ..machine };
        assert!(gone.provide(&localhost("mine"), None).is_err());
    }

    #[test]
    fn the_default_profile_is_made_and_loaded_once_and_a_failure_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let default =
            |machine: &Apparmor| machine.provide(&Profile::RuntimeDefault, Some(GENERATED));
        let error = default(&machine(dir.path(), None)).unwrap_err().to_string();
        assert!(error.contains("not installed"), "{error}");
        let error = default(&machine(dir.path(), Some("echo bad rule >&2; exit 1"))).unwrap_err();
        assert!(error.to_string().contains("bad rule"), "{error}");
        let error = default(&machine(dir.path(), Some("exit 0"))).unwrap_err();
        assert!(error.to_string().contains("something else"), "{error}");
        let loads =
            "cat > given; echo \"$@\" >> calls; echo 'isopod-default (enforce)' >> profiles";
        let machine = machine(dir.path(), Some(loads));
        default(&machine).unwrap();
        default(&machine).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("calls").lines().count(), 1, "it is loaded once");
        assert!(read("given").starts_with("profile isopod-default "));
        assert!(read("given").contains("peer=isopod-default,"));
    }
}
