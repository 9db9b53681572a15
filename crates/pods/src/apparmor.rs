//! AppArmor profiles: which ones the kernel has, and the default one, made and loaded where it has not.
//!
//! Always: a container that asks for a profile gets it or an error, never another one or none; the default one is
//! this version's, whatever an earlier daemon has loaded by its name. What is looked at may hang, so it is
//! looked at away from the async threads.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Whether this daemon has loaded the default profile. One loads at a time.
    is_ours: Arc<Mutex<bool>>,
}

impl Apparmor {
    pub(crate) fn of_this_machine() -> Self {
        Self {
            loaded: LOADED.into(),
            parsers: PARSERS.map(PathBuf::from).to_vec(),
            is_ours: Arc::default(),
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

    /// Replaces what an earlier daemon has loaded as the default profile, and what still runs with it.
    pub(crate) fn renew(&self) -> Result<(), Cause> {
        if self.is_loaded(GENERATED)? { self.provide_generated() } else { Ok(()) }
    }

    /// Loads the default profile once; again only where somebody has unloaded it since.
    fn provide_generated(&self) -> Result<(), Cause> {
        let mut is_ours = self.is_ours.lock().unwrap_or_else(PoisonError::into_inner);
        let is_loaded = self.is_loaded(GENERATED)?;
        if *is_ours && is_loaded {
            return Ok(());
        }
        let failed = |why: String| {
            let message = format!("cannot load the AppArmor profile {GENERATED}: {why}");
            Cause::other(Class::FailedPrecondition, message)
        };
        let Some(parser) = self.parsers.iter().find(|path| path.exists()) else {
            if is_loaded {
                let said = "apparmor_parser is not installed; the profile stays as it was loaded";
                tracing::warn!(profile = GENERATED, "{said}");
                *is_ours = true;
                return Ok(());
            }
            return Err(failed("apparmor_parser is not installed".to_owned()));
        };
        load(parser).map_err(|e| failed(e.to_string()))?;
        if self.is_loaded(GENERATED)? {
            *is_ours = true;
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

/// What it denies although a capability may allow it: mounts, and files that reach the host. What is denied of
/// /proc/sys comes beside these.
const DENIED: [&str; 8] = [
    "mount,",
    "/proc/{sysrq-trigger,kcore,kmem,mem} rwklx,",
    "/proc/{acpi,asound,bus,fs,irq,scsi}/** w,",
    "/proc/{sched_debug,timer_list,timer_stats} w,",
    "/sys/{block,bus,class,dev,devices,hypervisor,kernel,module,power}/** wklx,",
    "/sys/firmware/** rwklx,",
    "/sys/kernel/{debug,security,tracing}/** rwklx,",
    "/sys/fs/[^c]** wklx,",
];

/// What can be written of /proc/sys: what begins so, all of it a namespace's own (network, IPC, UTS). A pod that
/// shares one with the host shares its parameters. Everything else is denied, also what later kernels bring.
const WRITABLE: [&str; 7] = [
    "net/",
    "fs/mqueue/",
    "kernel/shm",
    "kernel/msg",
    "kernel/sem",
    "kernel/hostname",
    "kernel/domainname",
];

/// The rule for everything below `base` that begins with none of `allowed`. Rules know no "but": so it lists, for
/// each beginning that is part of an allowed one, the bytes that lead away from all of them.
fn all_but(base: &str, allowed: &[&str]) -> String {
    let mut ways: BTreeMap<&str, BTreeSet<char>> = BTreeMap::new();
    for text in allowed {
        for (at, next) in text.char_indices() {
            ways.entry(&text[..at]).or_default().insert(next);
        }
    }
    let away = ways.iter().map(|(beginning, next)| {
        let next: String = next.iter().collect();
        format!("{beginning}[^{next}]")
    });
    format!("{base}{{{}}}** w,", away.collect::<Vec<_>>().join(","))
}

/// The default profile (apparmor.d(5)).
fn profile(name: &str) -> String {
    let mut text = format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{\n");
    let sysctls = all_but("/proc/sys/", &WRITABLE);
    let denied = DENIED.iter().map(ToString::to_string).chain([sysctls]);
    let denied = denied.map(|rule| format!("deny {rule}"));
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
        Apparmor { loaded, parsers: vec![path], is_ours: Arc::default() }
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
    fn the_default_profile_is_made_and_loaded_once_by_each_daemon_and_a_failure_is_told() {
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
        // The next daemon's may say something else by the same name.
        let next = || Apparmor { is_ours: Arc::default(), ..machine.clone() };
        default(&next()).unwrap();
        assert_eq!(read("calls").lines().count(), 2);
        next().renew().unwrap();
        assert_eq!(read("calls").lines().count(), 3, "also for what runs already");
        fs::write(dir.path().join("profiles"), SOME).unwrap();
        next().renew().unwrap();
        assert_eq!(read("calls").lines().count(), 3, "nobody uses it here");
        default(&machine).unwrap();
        assert_eq!(read("calls").lines().count(), 4, "somebody has unloaded it");
        // Without the compiler what is loaded is taken.
        let bare = Apparmor { parsers: Vec::new(), ..next() };
        default(&bare).unwrap();
        assert!(read("given").starts_with("profile isopod-default "));
        assert!(read("given").contains("peer=isopod-default,"));
    }

    /// Whether a rule's path, as apparmor.d(5) has it, fits a text: `**`, `[^…]` and `{…,…}` are known.
    fn fits(rule: &str, text: &str) -> bool {
        if let Some(rest) = rule.strip_prefix('{') {
            let (choices, after) = rest.split_once('}').unwrap();
            return choices.split(',').any(|choice| fits(&format!("{choice}{after}"), text));
        }
        if let Some(rest) = rule.strip_prefix("[^") {
            let (not, after) = rest.split_once(']').unwrap();
            let mut chars = text.chars();
            return chars.next().is_some_and(|c| !not.contains(c)) && fits(after, chars.as_str());
        }
        if let Some(after) = rule.strip_prefix("**") {
            return (0..=text.len())
                .any(|at| text.is_char_boundary(at) && fits(after, &text[at..]));
        }
        match rule.chars().next() {
            None => text.is_empty(),
            Some(c) => text.strip_prefix(c).is_some_and(|text| fits(&rule[c.len_utf8()..], text)),
        }
    }

    #[test]
    fn of_the_kernels_parameters_only_those_of_a_namespace_can_be_written() {
        let text = profile(GENERATED);
        let rules: Vec<_> =
            text.lines().filter_map(|line| line.trim().strip_prefix("deny /proc/sys/")).collect();
        assert_eq!(rules.len(), 1, "{text}");
        let is_denied = |name: &str| fits(rules[0].strip_suffix(" w,").unwrap(), name);
        for name in [
            "net/ipv4/ip_forward",
            "net/core/somaxconn",
            "fs/mqueue/msg_max",
            "kernel/shmmax",
            "kernel/shm_rmid_forced",
            "kernel/msgmnb",
            "kernel/sem",
            "kernel/hostname",
            "kernel/domainname",
        ] {
            assert!(!is_denied(name), "{name}");
        }
        for name in [
            "vm/overcommit_memory",
            "user/max_user_namespaces",
            "dev/hpet/max-user-freq",
            "fs/file-max",
            "fs/mount-max",
            "fs/binfmt_misc/register",
            "kernel/core_pattern",
            "kernel/modprobe",
            "kernel/hotplug",
            "kernel/dmesg_restrict",
            "kernel/seccomp/actions_logged",
            "kernel/io_uring_disabled",
            "kernel/sched_rt_runtime_us",
            "kernel/hung_task_panic",
            "kernel/yama/ptrace_scope",
            "kernel/ns_last_pid",
            "nets/x",
            "kernels",
        ] {
            assert!(is_denied(name), "{name}");
        }
        // Whatever this kernel has.
        let mut directories = vec![PathBuf::from("/proc/sys")];
        let mut seen = 0;
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    directories.push(entry.path());
                    continue;
                }
                let path = entry.path();
                let name = path.strip_prefix("/proc/sys").unwrap().to_str().unwrap();
                let is_writable = WRITABLE.iter().any(|beginning| name.starts_with(beginning));
                assert_eq!(is_denied(name), !is_writable, "{name}");
                seen += 1;
            }
        }
        assert!(seen > 100, "{seen}");
    }
}
