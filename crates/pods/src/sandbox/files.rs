//! The files of a pod that its containers see.

use std::fs::Permissions;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use model::{NetworkMode, SandboxConfig};
use specgen::PodFiles;

use crate::error::Cause;
use crate::host::host_file;
use crate::pods::file_failed;

/// Makes a pod's directory, which is the daemon's alone.
pub(super) fn make_pod_dir(dir: &Path) -> Result<(), Cause> {
    let make = || -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join("containers"))
    };
    make().map_err(file_failed("make", dir))
}

/// Makes the directory of a pod's logs, which others read.
pub(super) fn make_log_dir(dir: &Path) -> Result<(), Cause> {
    std::fs::create_dir_all(dir).map_err(file_failed("make", dir))
}

/// Writes a pod's files. On the host's network they are the host's, but for a resolv.conf of the request.
pub(super) fn write(
    dir: &Path,
    config: &SandboxConfig,
    hostname: &str,
    ips: &[IpAddr],
) -> Result<(), Cause> {
    let hosts = match config.namespaces.network {
        NetworkMode::Pod => specgen::hosts_file(hostname, ips).into_bytes(),
        NetworkMode::Node => host_file("/etc/hosts"),
    };
    let resolv_conf = match &config.dns {
        Some(dns) => specgen::resolv_conf(dns).into_bytes(),
        None => host_file("/etc/resolv.conf"),
    };
    let hostname = specgen::hostname_file(hostname).into_bytes();
    for (name, content) in [("hosts", hosts), ("resolv.conf", resolv_conf), ("hostname", hostname)]
    {
        let path = dir.join(name);
        let write = || -> io::Result<()> {
            std::fs::write(&path, &content)?;
            // Whatever the daemon's umask is, the pod's users are to read it.
            std::fs::set_permissions(&path, Permissions::from_mode(0o644))
        };
        write().map_err(file_failed("write", &path))?;
    }
    Ok(())
}

/// Where they are, for the specs of containers.
pub(crate) fn of_pod(dir: &Path, has_shm: bool, shm_size: u64) -> PodFiles {
    let file = |name: &str| -> Option<PathBuf> { Some(dir.join(name)) };
    PodFiles {
        hosts: file("hosts"),
        hostname: file("hostname"),
        resolv_conf: file("resolv.conf"),
        shm: if has_shm { file("shm") } else { None },
        shm_size,
    }
}

#[cfg(test)]
mod tests {
    use model::Dns;

    use super::*;
    use crate::records::tests::sandbox_config;

    #[test]
    fn a_pods_files_say_what_the_request_says_and_everybody_may_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let pod = dir.path().join("pod");
        make_pod_dir(&pod).unwrap();
        make_pod_dir(&pod).unwrap();
        let mut config = sandbox_config("web", 0);
        let servers = vec!["10.0.0.10".to_owned()];
        config.dns = Some(Dns { servers, ..Dns::default() });
        write(&pod, &config, "web", &["10.1.2.3".parse().unwrap()]).unwrap();
        let read = |name: &str| std::fs::read_to_string(pod.join(name)).unwrap();
        assert!(read("hosts").contains("10.1.2.3\tweb"));
        assert_eq!(read("resolv.conf"), "nameserver 10.0.0.10\n");
        assert_eq!(read("hostname"), "web\n");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&pod), mode(&pod.join("hosts"))), (0o700, 0o644));
    }
}
