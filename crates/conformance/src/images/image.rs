//! An image under construction, and built.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::layer::{Blob, Compression, Layer};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// The architecture of this machine, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Programs of busybox that have a name of their own in `/bin`.
const APPLETS: [&str; 59] = [
    "ash", "awk", "basename", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dirname",
    "echo", "env", "false", "find", "free", "grep", "head", "hostname", "id", "ifconfig", "ip",
    "kill", "ln", "ls", "mkdir", "mknod", "mount", "nc", "nproc", "nslookup", "ping", "printf",
    "ps", "pwd", "readlink", "rm", "sed", "seq", "setsid", "sh", "sleep", "sort", "stat", "stty",
    "sync", "tail", "tar", "test", "touch", "tr", "true", "tty", "umount", "uname", "wc", "wget",
    "yes",
];

/// Settings, layers and platform.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub layers: Vec<Blob>,
    settings: Value,
    architecture: String,
    is_docker: bool,
}

impl Image {
    /// An image of these layers that says nothing of what to run.
    pub(crate) fn new(layers: Vec<Blob>) -> Self {
        let architecture = architecture().to_owned();
        Self { layers, settings: json!({}), architecture, is_docker: false }
    }

    /// An image of a static busybox: a shell, the usual programs, and a few users.
    pub(crate) fn busybox(program: &Path) -> io::Result<Self> {
        let program = std::fs::read(program).map_err(|error| {
            let what = "a static busybox for the test images (Debian's busybox-static)";
            io::Error::new(error.kind(), format!("{}: {error}; this is {what}", program.display()))
        })?;
        let mut layer = Layer::new()
            .directory("bin", 0o755)
            .directory("etc", 0o755)
            .directory("root", 0o700)
            .directory("tmp", 0o1777)
            .directory("home", 0o755)
            .directory("home/worker", 0o755)
            .file("bin/busybox", 0o755, &program);
        for applet in APPLETS {
            layer = layer.symlink(&format!("bin/{applet}"), "busybox");
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                      worker:x:1000:1000:worker:/home/worker:/bin/sh\n\
                      other:x:1001:2001:other:/:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/:/bin/false\n";
        let group = "root:x:0:\nworker:x:1000:\nextra:x:2000:worker,other\nother:x:2001:\n\
                     nobody:x:65534:\n";
        let layer = layer
            .file("etc/passwd", 0o644, passwd.as_bytes())
            .file("etc/group", 0o644, group.as_bytes())
            .build(Compression::Gzip)?;
        Ok(Self::new(vec![layer])
            .set("Cmd", json!(["/bin/sh"]))
            .set("Env", json!(["PATH=/bin", "FROM_IMAGE=yes"])))
    }

    /// One more layer on top.
    pub(crate) fn layer(mut self, layer: Blob) -> Self {
        self.layers.push(layer);
        self
    }

    /// A setting of the config, by its name there: `Env`, `Cmd`, `User` and so on.
    pub(crate) fn set(mut self, name: &str, value: Value) -> Self {
        self.settings[name] = value;
        self
    }

    /// With a label that tells it from every other image.
    pub(crate) fn unique(self, mark: &str) -> Self {
        self.set("Labels", json!({ "check.isopod": mark }))
    }

    /// For another architecture.
    pub(crate) fn for_architecture(mut self, name: &str) -> Self {
        name.clone_into(&mut self.architecture);
        self
    }

    /// With the media types of Docker's schema 2; its layers must be gzip.
    pub(crate) fn in_docker_form(mut self) -> Self {
        self.is_docker = true;
        self
    }

    pub(crate) fn config(&self) -> Blob {
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": self.settings,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let media_type = if self.is_docker { DOCKER_CONFIG } else { OCI_CONFIG };
        Blob::new(media_type, config.to_string().into_bytes())
    }

    pub(crate) fn manifest(&self) -> Blob {
        let layers = self.layers.iter().map(|layer| {
            let mut descriptor = layer.descriptor();
            if self.is_docker {
                descriptor["mediaType"] = json!(DOCKER_LAYER);
            }
            descriptor
        });
        let layers: Vec<Value> = layers.collect();
        let media_type = if self.is_docker { DOCKER_MANIFEST } else { OCI_MANIFEST };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": self.config().descriptor(),
            "layers": layers,
        });
        Blob::new(media_type, manifest.to_string().into_bytes())
    }

    /// The id that runtimes give it: the digest of its config.
    pub(crate) fn id(&self) -> String {
        self.config().digest
    }
}

/// Several images under one name, one for each platform.
#[derive(Debug, Clone)]
pub(crate) struct Index(pub Vec<Image>);

impl Index {
    pub(crate) fn manifest(&self) -> Blob {
        let manifests = self.0.iter().map(|image| {
            let mut descriptor = image.manifest().descriptor();
            descriptor["platform"] = json!({ "os": "linux", "architecture": image.architecture });
            descriptor
        });
        let manifests: Vec<Value> = manifests.collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": manifests,
        });
        Blob::new(OCI_INDEX, index.to_string().into_bytes())
    }
}
