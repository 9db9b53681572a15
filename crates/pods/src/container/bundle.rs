//! A container's bundle: what the monitor reads.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use runtime_spec::{Resources, Spec};

use crate::error::Cause;
use crate::pods::file_failed;

/// The spec's name in a bundle (OCI runtime specification, "Filesystem Bundle").
const SPEC: &str = "config.json";
/// The compiled filter beside it.
const FILTER: &str = "seccomp.bpf";

/// Writes a bundle. The spec has the container's environment in it, so nobody else may read it.
pub(super) fn write(dir: &Path, spec: &Spec, filter: Option<&[u8]>) -> Result<(), Cause> {
    let write = || -> io::Result<()> {
        std::fs::DirBuilder::new().mode(0o700).create(dir)?;
        std::fs::DirBuilder::new().mode(0o700).create(dir.join("rootfs"))?;
        write_private(&dir.join(SPEC), &serde_json::to_vec(spec)?)?;
        filter.map_or(Ok(()), |filter| write_private(&dir.join(FILTER), filter))
    };
    write().map_err(file_failed("write the bundle", dir))
}

/// The spec in a bundle.
pub(super) fn read(dir: &Path) -> Result<Spec, Cause> {
    let path = dir.join(SPEC);
    let read = || -> io::Result<Spec> { Ok(serde_json::from_slice(&std::fs::read(&path)?)?) };
    read().map_err(file_failed("read", &path))
}

/// Changes the limits, and the OOM score where one is given, of a container that has no cgroup yet.
pub(super) fn change_limits(
    dir: &Path,
    limits: &Resources,
    oom_score: Option<i32>,
) -> Result<(), Cause> {
    let path = dir.join(SPEC);
    let change = || -> io::Result<()> {
        let mut spec: Spec = serde_json::from_slice(&std::fs::read(&path)?)?;
        let old = spec.linux.get_or_insert_default().resources.get_or_insert_default();
        let new = limits.clone();
        // An update says nothing of these.
        let (devices, block_io) = (std::mem::take(&mut old.devices), old.block_io.take());
        *old = Resources { devices, block_io, pids: old.pids, ..new };
        if let (Some(score), Some(process)) = (oom_score, &mut spec.process) {
            process.oom_score_adj = Some(score);
        }
        let temporary = dir.join(".config.json");
        write_private(&temporary, &serde_json::to_vec(&spec)?)?;
        std::fs::rename(&temporary, &path)
    };
    change().map_err(file_failed("change the limits in", &path))
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use runtime_spec::{Cpu, DeviceCgroup, Linux};

    use super::*;

    #[test]
    fn a_bundle_is_the_daemons_alone_and_its_limits_can_be_changed() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("b");
        let devices = vec![DeviceCgroup { allow: true, ..DeviceCgroup::default() }];
        let limits = Resources { devices, ..Resources::default() };
        let linux = Linux { resources: Some(limits), ..Linux::default() };
        let process = Some(runtime_spec::Process::default());
        let spec = Spec { linux: Some(linux), process, ..Spec::default() };
        write(&bundle, &spec, Some(b"filter")).unwrap();
        let cpu = Some(Cpu { shares: Some(5), ..Cpu::default() });
        let new = Resources { cpu: cpu.clone(), ..Resources::default() };
        change_limits(&bundle, &new, Some(7)).unwrap();
        let read: Spec =
            serde_json::from_slice(&std::fs::read(bundle.join("config.json")).unwrap()).unwrap();
        assert_eq!(read.process.unwrap().oom_score_adj, Some(7));
        let limits = read.linux.unwrap().resources.unwrap();
        assert_eq!((limits.cpu, limits.devices.len()), (cpu, 1));
        for file in ["config.json", "seccomp.bpf"] {
            let mode = std::fs::metadata(bundle.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert!(write(&bundle, &spec, None).is_err(), "a bundle is nobody else's");
    }
}
