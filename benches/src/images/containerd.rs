//! A containerd of our own, with its defaults.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cri_api::v1::image_service_client::ImageServiceClient;
use testkit::{Daemon, Registry};
use tonic::transport::Channel;

#[derive(Debug)]
pub struct Containerd {
    process: Child,
    socket: PathBuf,
}

impl Containerd {
    /// From `programs` or from `PATH`; `None` where it is in neither.
    pub async fn start(
        daemon: &Daemon,
        programs: Option<&Path>,
        registry: &Registry,
    ) -> Option<Self> {
        let at = daemon.directory().join("containerd");
        let certs = at.join("certs.d");
        let hosts = certs.join(registry.host());
        std::fs::create_dir_all(&hosts).expect("a directory can be made");
        std::fs::write(hosts.join("hosts.toml"), registry.hosts_toml())
            .expect("a file can be written");
        let socket = at.join("containerd.sock");
        // The form of containerd 1.x, which 2.x reads too.
        let config = format!(
            "version = 2\nroot = '{}'\nstate = '{}'\n[grpc]\naddress = '{}'\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '{}'\n",
            at.join("root").display(),
            at.join("state").display(),
            socket.display(),
            certs.display(),
        );
        std::fs::write(at.join("config.toml"), config).expect("a file can be written");
        let mut path = programs.map(|at| at.as_os_str().to_owned()).unwrap_or_default();
        path.push(OsString::from(":"));
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let program = programs.map_or_else(|| "containerd".into(), |at| at.join("containerd"));
        let process = Command::new(program)
            .arg("--config")
            .arg(at.join("config.toml"))
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let this = Self { process, socket };
        let began = Instant::now();
        loop {
            let request = cri_api::v1::ImageFsInfoRequest {};
            if this.images(daemon).image_fs_info(request).await.is_ok() {
                return Some(this);
            }
            assert!(began.elapsed() < Duration::from_secs(30), "containerd does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn images(&self, daemon: &Daemon) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(daemon.channel_at(&self.socket))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
