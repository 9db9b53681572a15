//! The process part of a plan; kept for execs as long as the container lives, so it is small.

use std::ffi::CString;
use std::path::PathBuf;

use runtime_spec::{ConsoleSize, Process};
use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;

use super::{BadSpec, capability};

/// A process to be, checked.
#[derive(Debug, Clone)]
pub struct ProcessPlan {
    /// The program and its arguments; not empty.
    pub args: Vec<CString>,
    /// Environment, `NAME=value`.
    pub env: Vec<CString>,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Capabilities; `None` keeps the launcher's own.
    pub capabilities: Option<CapabilitySets>,
    /// Limits.
    pub rlimits: Vec<RlimitPlan>,
    /// Whether execve may grant no privileges.
    pub no_new_privileges: bool,
    /// OOM score adjustment.
    pub oom_score_adj: Option<i32>,
    /// Whether the standard streams are a terminal, and its size at first.
    pub terminal: Option<ConsoleSize>,
    /// AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// SELinux label.
    pub selinux_label: Option<String>,
    /// CPUs of processes that are added to the container.
    pub exec_cpus: Option<Box<ExecCpus>>,
}

/// Capability sets as bit masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilitySets {
    /// Bounding.
    pub bounding: u64,
    /// Effective.
    pub effective: u64,
    /// Inheritable.
    pub inheritable: u64,
    /// Permitted.
    pub permitted: u64,
    /// Ambient.
    pub ambient: u64,
}

/// A resource limit.
#[derive(Debug, Clone, Copy)]
pub struct RlimitPlan {
    /// Which.
    pub resource: Resource,
    /// How much.
    pub limit: RlimitValues,
}

/// Soft and hard limit; `u64::MAX` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RlimitValues {
    /// What the kernel enforces.
    pub soft: u64,
    /// Its ceiling.
    pub hard: u64,
}

impl RlimitValues {
    pub(crate) fn to_kernel(self) -> Rlimit {
        let value = |n: u64| (n != u64::MAX).then_some(n);
        Rlimit { current: value(self.soft), maximum: value(self.hard) }
    }
}

/// CPUs of processes that are added to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecCpus {
    /// Until such a process is in the container's cgroup.
    pub initial: Option<CpuSet>,
    /// From then on.
    pub last: Option<CpuSet>,
    /// Whether such a process may have the container's CPUs where it can have none of these.
    pub or_all: bool,
}

impl ExecCpus {
    fn read(given: &runtime_spec::CpuAffinity) -> Result<Box<Self>, BadSpec> {
        let set = |field: &str, text: &str| match text {
            "" => Ok(None),
            text => cpu_set(text).map(Some).ok_or_else(|| {
                BadSpec::new(
                    format!("process.execCPUAffinity.{field}"),
                    format!("{text:?} is not a list of CPUs such as 0-2,5"),
                )
            }),
        };
        Ok(Box::new(Self {
            initial: set("initial", &given.initial)?,
            last: set("final", &given.final_)?,
            or_all: false,
        }))
    }
}

fn cpu_set(text: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CpuSet::MAX_CPU {
            return None;
        }
        (first..=last).for_each(|cpu| set.set(cpu));
    }
    Some(set)
}

impl ProcessPlan {
    /// Reads `process`.
    ///
    /// # Errors
    /// [`BadSpec`] names the field.
    pub fn read(process: &Process) -> Result<Self, BadSpec> {
        if process.args.first().is_none_or(String::is_empty) {
            return Err(BadSpec::new("process.args", "names no program"));
        }
        if !process.cwd.is_absolute() {
            return Err(BadSpec::new("process.cwd", "must be absolute"));
        }
        if process.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
            return Err(BadSpec::new("process.oomScoreAdj", "must be between -1000 and 1000"));
        }
        Ok(Self {
            args: c_strings("process.args", &process.args)?,
            env: c_strings("process.env", &process.env)?,
            cwd: process.cwd.clone(),
            uid: process.user.uid,
            gid: process.user.gid,
            groups: process.user.additional_gids.clone(),
            umask: process.user.umask,
            capabilities: process.capabilities.as_ref().map(sets).transpose()?,
            rlimits: process.rlimits.iter().map(rlimit).collect::<Result<_, _>>()?,
            no_new_privileges: process.no_new_privileges,
            oom_score_adj: process.oom_score_adj,
            terminal: process.terminal.then(|| process.console_size.unwrap_or_default()),
            apparmor_profile: process.apparmor_profile.clone().filter(|p| !p.is_empty()),
            selinux_label: process.selinux_label.clone().filter(|l| !l.is_empty()),
            exec_cpus: process.exec_cpu_affinity.as_ref().map(ExecCpus::read).transpose()?,
        })
    }

    /// Whether it may get CAP_SYS_PTRACE, and with it the power over whatever it sees.
    #[must_use]
    pub fn may_trace(&self) -> bool {
        const SYS_PTRACE: u64 = 1 << 19;
        self.capabilities.is_none_or(|sets| sets.bounding & SYS_PTRACE != 0)
    }

    /// This process's identity with another command and terminal: what an exec runs.
    ///
    /// # Errors
    /// [`BadSpec`] for a command that is empty or has a NUL in it.
    pub fn with_command(
        &self,
        args: &[String],
        terminal: Option<ConsoleSize>,
    ) -> Result<Self, BadSpec> {
        if args.first().is_none_or(String::is_empty) {
            return Err(BadSpec::new("args", "names no program"));
        }
        Ok(Self { args: c_strings("args", args)?, terminal, ..self.clone() })
    }
}

/// The values are never shown: an environment may hold secrets.
fn c_strings(field: &str, strings: &[String]) -> Result<Vec<CString>, BadSpec> {
    let convert = |(i, s): (usize, &String)| {
        CString::new(s.as_bytes())
            .map_err(|_| BadSpec::new(format!("{field}[{i}]"), "has a NUL byte in it"))
    };
    strings.iter().enumerate().map(convert).collect()
}

fn sets(given: &runtime_spec::Capabilities) -> Result<CapabilitySets, BadSpec> {
    let mask = |field: &str, names: &[String]| {
        names.iter().try_fold(0, |mask, name| {
            let unknown = || {
                BadSpec::new(
                    format!("process.capabilities.{field}"),
                    format!("{name:?} is not known"),
                )
            };
            Ok(mask | capability::bit(name).ok_or_else(unknown)?)
        })
    };
    Ok(CapabilitySets {
        bounding: mask("bounding", &given.bounding)?,
        effective: mask("effective", &given.effective)?,
        inheritable: mask("inheritable", &given.inheritable)?,
        permitted: mask("permitted", &given.permitted)?,
        ambient: mask("ambient", &given.ambient)?,
    })
}

fn rlimit(given: &runtime_spec::Rlimit) -> Result<RlimitPlan, BadSpec> {
    let resource = match given.kind.as_str() {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        other => return Err(BadSpec::new("process.rlimits", format!("{other:?} is not known"))),
    };
    if given.soft > given.hard {
        return Err(BadSpec::new("process.rlimits", format!("{}: soft is above hard", given.kind)));
    }
    Ok(RlimitPlan { resource, limit: RlimitValues { soft: given.soft, hard: given.hard } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        Process { args: vec!["sh".into()], cwd: "/".into(), ..Process::default() }
    }

    #[test]
    fn a_bad_process_is_refused_by_the_field_and_no_value_is_shown() {
        type Spoil = fn(&mut Process);
        let cases: [(Spoil, &str); 7] = [
            (|p| p.args.clear(), "process.args"),
            (|p| p.args = vec![String::new()], "process.args"),
            (|p| p.cwd = "tmp".into(), "process.cwd"),
            (|p| p.env = vec!["OK=1".into(), "SECRET=a\0b".into()], "process.env[1]"),
            (|p| p.oom_score_adj = Some(1001), "process.oomScoreAdj"),
            (
                |p| {
                    p.rlimits = vec![runtime_spec::Rlimit {
                        kind: "RLIMIT_NOFILE".into(),
                        soft: 2,
                        hard: 1,
                    }]
                },
                "process.rlimits",
            ),
            (
                |p| {
                    p.capabilities = Some(runtime_spec::Capabilities {
                        bounding: vec!["CAP_X".into()],
                        ..Default::default()
                    });
                },
                "process.capabilities.bounding",
            ),
        ];
        for (spoil, field) in cases {
            let mut bad = process();
            spoil(&mut bad);
            let error = ProcessPlan::read(&bad).unwrap_err();
            assert_eq!(error.field, field);
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn cpus_of_execs_are_lists() {
        let read = |list: &str| {
            let mut given = process();
            let (initial, final_) = (String::new(), list.to_owned());
            given.exec_cpu_affinity = Some(runtime_spec::CpuAffinity { initial, final_ });
            ProcessPlan::read(&given).map(|plan| plan.exec_cpus.unwrap().last)
        };
        let set = read("0-1,3").unwrap().unwrap();
        assert_eq!(
            (0..5).map(|cpu| set.is_set(cpu)).collect::<Vec<_>>(),
            [true, true, false, true, false]
        );
        assert_eq!(read("").unwrap(), None);
        for bad in ["x", "3-1", "0-99999", "0,"] {
            assert_eq!(read(bad).unwrap_err().field, "process.execCPUAffinity.final", "{bad}");
        }
    }

    #[test]
    fn an_exec_keeps_the_identity_and_changes_the_command() {
        let mut given = process();
        given.user.uid = 7;
        given.terminal = true;
        let plan = ProcessPlan::read(&given).unwrap();
        let exec = plan.with_command(&["ls".into(), "-l".into()], None).unwrap();
        assert_eq!((exec.uid, exec.args.len(), exec.terminal), (7, 2, None));
        assert!(plan.with_command(&[], None).is_err());
    }
}
