//! The Linux part of the OCI runtime specification (version 1.2) as plain types.
//!
//! Owns: the shape of `config.json`. Always: no I/O; a field that is absent stays absent when it is
//! written again. Why not the `oci-spec` crate: docs/decisions/0002-own-runtime-spec-types.md.
//! Callers: `specgen` makes a spec, `seccomp` compiles a part of one, `launcher` and `oci-runtime`
//! turn one into a process.

mod linux;
mod process;
mod seccomp;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use linux::{
    BlockIo, Cpu, DeviceCgroup, HugepageLimit, IdMap, IntelRdt, Linux, LinuxDevice, Memory,
    Namespace, NamespaceKind, Pids, Resources, ThrottleDevice,
};
pub use process::{Capabilities, ConsoleSize, CpuAffinity, Process, Rlimit, User};
pub use seccomp::{Seccomp, SeccompArg, SeccompSyscall};

/// The version that specs made here say they follow. What later versions added is additional fields, which
/// runtimes that know them read all the same, while crun before 1.9 refuses a version that it does not know.
pub const VERSION: &str = "1.0.2";

/// A container's configuration, `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The version of the specification that this follows.
    pub oci_version: String,
    /// The process to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Host name, with a UTS namespace of its own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// NIS domain name, with a UTS namespace of its own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domainname: String,
    /// Mounts, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs to run at points of the container's life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// For whoever reads it; `run.oci.*` and the like may steer a runtime.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: PathBuf,
    /// Mounted read-only.
    #[serde(skip_serializing_if = "is_false")]
    pub readonly: bool,
}

/// A mount inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Where, an absolute path inside.
    pub destination: PathBuf,
    /// The file system's type; `bind` or empty for a bind mount.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// A device, a path of the host, or a word for show.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// As in fstab(5), and the runtime specification's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// User ids, for an idmapped mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMap>,
    /// Group ids, for an idmapped mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMap>,
}

/// Programs to run at points of the container's life ("POSIX-platform Hooks").
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Outside, after the namespaces are made, before pivot_root (deprecated there, still used by CDI files).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// Outside, after the namespaces are made, before pivot_root.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// Inside, before pivot_root.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// Inside, before the process is executed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// Outside, after the process was started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// Outside, after the container was deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// One such program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute path.
    pub path: PathBuf,
    /// Arguments, the program's name first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment, `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds after which it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
pub(crate) const fn is_false(b: &bool) -> bool {
    !*b
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"{
      "ociVersion": "1.2.0",
      "process": {"terminal": true, "user": {"uid": 1, "gid": 2, "additionalGids": [3]}, "args": ["sh"],
        "env": ["A=b"], "cwd": "/", "capabilities": {"bounding": ["CAP_KILL"]}, "noNewPrivileges": true,
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 2, "soft": 1}], "oomScoreAdj": -5,
        "execCPUAffinity": {"initial": "0", "final": "1-2"}},
      "root": {"path": "rootfs", "readonly": true},
      "hostname": "h",
      "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
      "hooks": {"createRuntime": [{"path": "/bin/h", "args": ["h"], "env": ["A=b"], "timeout": 3}]},
      "linux": {
        "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/x"}],
        "resources": {"devices": [{"allow": false, "access": "rwm"}], "memory": {"limit": 5, "swap": -1},
          "cpu": {"shares": 2, "quota": -1, "period": 100000, "cpus": "0"}, "pids": {"limit": 7},
          "hugepageLimits": [{"pageSize": "2MB", "limit": 0}], "unified": {"memory.high": "9"},
          "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 6}]}},
        "intelRdt": {"closID": "gold", "schemata": ["MB:0=50"]},
        "cgroupsPath": "/a/b",
        "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64"],
          "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}]},
        "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]
      }
    }"#;

    #[test]
    fn what_is_read_is_written_again_unchanged() {
        let spec: Spec = serde_json::from_str(SAMPLE).unwrap();
        let written: serde_json::Value = serde_json::to_value(&spec).unwrap();
        let given: serde_json::Value = serde_json::from_str(SAMPLE).unwrap();
        assert_eq!(written, given);
    }
}
