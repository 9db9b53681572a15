//! `features`: what this runtime can do (the runtime specification's features document).

use serde_json::json;

use crate::error::OciError;

/// The version of the specification that is followed.
pub(super) const SPEC_VERSION: &str = "1.2.0";

pub(super) fn features() -> Result<u8, OciError> {
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"
        ],
        "mountOptions": [
            "async", "atime", "bind", "dev", "diratime", "exec", "noatime", "nodev", "nodiratime",
            "noexec", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "rbind",
            "relatime", "ro", "rprivate", "rro", "rslave", "rshared", "rw", "shared", "slave",
            "strictatime", "suid", "sync"
        ],
        "linux": {
            // Those that can be made: a time namespace can be entered only.
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": launcher::capability_names().collect::<Vec<_>>(),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": false },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"
                ],
                "archs": [
                    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86",
                    "SCMP_ARCH_X86_64"
                ]
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } }
        }
    });
    let text = serde_json::to_string_pretty(&document).map_err(OciError::json("the features"))?;
    super::print(&format!("{text}\n"))
}
