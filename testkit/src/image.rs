//! Images, assembled on the spot.

use std::fs;

use serde_json::{Value, json};

use crate::layer::{Blob, Compression, Layer};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The architecture of this machine, as images name it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An image under construction, and built.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its layers, the lowest first.
    pub layers: Vec<Blob>,
    settings: Value,
    architecture: String,
}

impl Image {
    /// An image of these layers that says nothing of what to run.
    #[must_use]
    pub fn new(layers: Vec<Blob>) -> Self {
        Self { layers, settings: json!({}), architecture: architecture().to_owned() }
    }

    /// One more layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Blob) -> Self {
        self.layers.push(layer);
        self
    }

    /// A setting of the config, by its name there: `Env`, `Cmd`, `User` and so on.
    #[must_use]
    pub fn set(mut self, name: &str, value: Value) -> Self {
        self.settings[name] = value;
        self
    }

    /// For another architecture.
    #[must_use]
    pub fn for_architecture(mut self, name: &str) -> Self {
        name.clone_into(&mut self.architecture);
        self
    }

    /// Its config.
    #[must_use]
    pub fn config(&self) -> Blob {
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": self.settings,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        Blob::new(CONFIG, config.to_string().into_bytes())
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> Blob {
        let layers: Vec<Value> = self.layers.iter().map(Blob::descriptor).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.config().descriptor(),
            "layers": layers,
        });
        Blob::new(MANIFEST, manifest.to_string().into_bytes())
    }

    /// The id that runtimes give it: the digest of its config.
    #[must_use]
    pub fn id(&self) -> String {
        self.config().digest
    }

    /// Its platform, as an index names it.
    pub(crate) fn platform(&self) -> Value {
        json!({ "os": "linux", "architecture": self.architecture })
    }
}

/// Several images under one name, one for each platform.
#[derive(Debug, Clone)]
pub struct Index(pub Vec<Image>);

impl Index {
    /// The index.
    #[must_use]
    pub fn manifest(&self) -> Blob {
        let manifests = self.0.iter().map(|image| {
            let mut descriptor = image.manifest().descriptor();
            descriptor["platform"] = image.platform();
            descriptor
        });
        let manifests: Vec<Value> = manifests.collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        Blob::new(INDEX, index.to_string().into_bytes())
    }
}

/// Programs of busybox that have a name of their own in `/bin`.
pub(crate) const APPLETS: [&str; 50] = [
    "ash", "awk", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dmesg", "echo", "env",
    "false", "find", "free", "grep", "head", "hostname", "id", "ifconfig", "ip", "kill", "ln",
    "ls", "mkdir", "mknod", "mount", "nc", "nslookup", "ping", "printf", "ps", "pwd", "readlink",
    "rm", "sed", "seq", "sh", "sleep", "stat", "tail", "tar", "test", "touch", "tr", "true",
    "umount", "wget", "yes",
];

/// An image of this machine's busybox: a shell, the usual programs, and a few users.
///
/// # Panics
/// Where `/bin/busybox` is missing or not static; `cargo xtask setup` installs it.
#[must_use]
pub fn busybox(compression: Compression) -> Image {
    let program = fs::read("/bin/busybox").expect("/bin/busybox, from Debian's busybox-static");
    let mut layer = Layer::new()
        .directory("bin", 0o755)
        .directory("etc", 0o755)
        .directory("root", 0o700)
        .directory("tmp", 0o1777)
        .directory("home", 0o755)
        .file("bin/busybox", 0o755, &program);
    for applet in APPLETS {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n\
                  worker:x:1000:1000:worker:/home:/bin/sh\n";
    let group = "root:x:0:\nworker:x:1000:\nextra:x:2000:worker\nnobody:x:65534:\n";
    let layer = layer
        .file("etc/passwd", 0o644, passwd.as_bytes())
        .file("etc/group", 0o644, group.as_bytes())
        .build(compression);
    Image::new(vec![layer])
        .set("Cmd", json!(["/bin/sh"]))
        .set("Env", json!(["PATH=/bin", "FROM_IMAGE=yes"]))
}
