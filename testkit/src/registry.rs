//! Debian's docker-registry on loopback.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::host::run;
use crate::http::{Answer, send};
use crate::image::{Image, Index};
use crate::layer::Blob;
use crate::poll::eventually;

/// Who may use a registry with authentication.
pub const USER: &str = "isopod";
/// That user's password.
pub const PASSWORD: &str = "armadillidium";
/// The line of an htpasswd file for them (bcrypt).
const HTPASSWD: &str = "$2b$05$O.LJ/IGrFbDSNJ.pJIDIUeJ5tApm/LDRILP2FblLNsfJGDoEvQ/aa";

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTPS with a certificate of an authority of its own.
    Https,
    /// Plain HTTP with a user and a password.
    HttpWithPassword,
}

/// A registry that ends with this value.
#[derive(Debug)]
pub struct Registry {
    directory: TempDir,
    server: Server,
    /// Where images are put; the same process where that is possible.
    back_door: Option<Server>,
    scheme: Scheme,
}

#[derive(Debug)]
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    /// An empty registry at a port that the kernel chose.
    ///
    /// # Panics
    /// Where docker-registry cannot be started; `cargo xtask setup` installs it.
    #[must_use]
    pub fn start(scheme: Scheme) -> Self {
        let directory = tempfile::Builder::new().prefix("isopod-registry-").tempdir();
        let directory = directory.expect("a temporary directory");
        let server = serve(directory.path(), scheme);
        let back_door = (scheme != Scheme::Http).then(|| serve(directory.path(), Scheme::Http));
        Self { directory, server, back_door, scheme }
    }

    /// `127.0.0.1:PORT`: what references to its images begin with.
    #[must_use]
    pub fn host(&self) -> String {
        self.server.address.to_string()
    }

    /// A reference to a name in it.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// What a `hosts.toml` says of it.
    #[must_use]
    pub fn hosts_toml(&self) -> String {
        let host = self.host();
        match self.scheme {
            Scheme::Http | Scheme::HttpWithPassword => format!("server = \"http://{host}\"\n"),
            Scheme::Https => {
                let ca = self.directory.path().join("ca.pem");
                format!("server = \"https://{host}\"\nca = \"{}\"\n", ca.display())
            }
        }
    }

    /// Puts an image in it, with a name and a tag such as `test/busybox:1`.
    pub fn push(&self, image: &Image, name: &str) {
        let (repository, tag) = name.split_once(':').expect("a name with a tag");
        self.push_blobs(image, repository);
        self.push_manifest(&image.manifest(), repository, tag);
    }

    /// Puts an index and its images in it.
    pub fn push_index(&self, index: &Index, name: &str) {
        let (repository, tag) = name.split_once(':').expect("a name with a tag");
        for image in &index.0 {
            self.push_blobs(image, repository);
            let manifest = image.manifest();
            self.push_manifest(&manifest, repository, &manifest.digest);
        }
        self.push_manifest(&index.manifest(), repository, tag);
    }

    /// Puts a manifest in it whose blobs are there.
    pub fn push_manifest(&self, manifest: &Blob, repository: &str, tag: &str) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let headers = [("Content-Type", manifest.media_type.as_str())];
        let answer = self.send("PUT", &path, &headers, &manifest.bytes);
        let said = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 201, "{repository}:{tag} was not taken: {said}");
    }

    fn push_blobs(&self, image: &Image, repository: &str) {
        let config = image.config();
        for blob in image.layers.iter().chain([&config]) {
            self.push_blob(blob, repository);
        }
    }

    /// Puts a blob in it.
    pub fn push_blob(&self, blob: &Blob, repository: &str) {
        let answer = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
        assert_eq!(answer.status, 202, "an upload was not begun: {answer:?}");
        let location = answer.location.expect("an upload has a place");
        // An absolute URL, with a query of its own.
        let path = location.splitn(4, '/').nth(3).expect("a URL has a path");
        let path = format!("/{path}&digest={}", blob.digest);
        let headers = [("Content-Type", "application/octet-stream")];
        let answer = self.send("PUT", &path, &headers, &blob.bytes);
        assert_eq!(answer.status, 201, "a blob was not taken: {answer:?}");
    }

    /// An artifact: files by name, and what it is. Put in it with a name and a tag.
    pub fn push_artifact(&self, kind: &str, files: &[(&str, &[u8])], name: &str) -> Blob {
        let (repository, tag) = name.split_once(':').expect("a name with a tag");
        let config = Blob::new("application/vnd.oci.empty.v1+json", b"{}".to_vec());
        self.push_blob(&config, repository);
        let layers: Vec<serde_json::Value> = files
            .iter()
            .map(|(title, bytes)| {
                let blob = Blob::new("application/octet-stream", bytes.to_vec());
                self.push_blob(&blob, repository);
                let mut descriptor = blob.descriptor();
                descriptor["annotations"] =
                    serde_json::json!({ "org.opencontainers.image.title": title });
                descriptor
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": kind,
            "config": config.descriptor(),
            "layers": layers,
        });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = Blob::new(media_type, manifest.to_string().into_bytes());
        self.push_manifest(&manifest, repository, tag);
        manifest
    }

    /// Changes a byte of a blob where the registry keeps it; it goes on serving it.
    ///
    /// # Panics
    /// Where it has no such blob.
    pub fn corrupt(&self, digest: &str) {
        let path = self.blob_path(digest);
        let mut bytes = fs::read(&path).expect("the registry has the blob");
        let last = bytes.len() - 1;
        bytes[last] ^= 0xff;
        fs::write(path, bytes).expect("the blob can be written");
    }

    /// Cuts a blob short where the registry keeps it.
    ///
    /// # Panics
    /// Where it has no such blob.
    pub fn cut(&self, digest: &str) {
        let path = self.blob_path(digest);
        let bytes = fs::read(&path).expect("the registry has the blob");
        fs::write(path, &bytes[..bytes.len() / 2]).expect("the blob can be written");
    }

    /// Where it keeps everything (the file system layout of distribution).
    pub(crate) fn store(&self) -> PathBuf {
        self.directory.path().join("data/docker/registry/v2")
    }

    fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.store().join("blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let server = self.back_door.as_ref().unwrap_or(&self.server);
        send(server.address, method, path, headers, body).expect("the registry answers")
    }
}

/// Starts a registry process that keeps its images below `directory`.
fn serve(directory: &Path, scheme: Scheme) -> Server {
    let name = format!("{scheme:?}");
    let config = directory.join(format!("{name}.yml"));
    let log = directory.join(format!("{name}.log"));
    let data = directory.join("data");
    let mut text = format!(
        "version: 0.1\nlog: {{ level: info }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\n\
         http:\n  addr: 127.0.0.1:0\n  secret: none\n",
        data.display()
    );
    match scheme {
        Scheme::Http => {}
        Scheme::Https => {
            certify(directory);
            let d = directory.display();
            text.push_str(&format!(
                "  tls: {{ certificate: {d}/server.pem, key: {d}/server.key }}\n"
            ));
        }
        Scheme::HttpWithPassword => {
            let users = directory.join("htpasswd");
            fs::write(&users, format!("{USER}:{HTPASSWD}\n")).expect("a file");
            text.push_str(&format!(
                "auth:\n  htpasswd: {{ realm: tests, path: {} }}\n",
                users.display()
            ));
        }
    }
    fs::write(&config, text).expect("a file");
    let output = fs::File::create(&log).expect("a file");
    let mut process = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a descriptor"))
        .stderr(output)
        .spawn()
        .expect("docker-registry, from Debian's package");
    let address = eventually(Duration::from_secs(30), || {
        let over = process.try_wait().expect("a child can be waited for");
        assert!(
            over.is_none(),
            "the registry ended: {}",
            fs::read_to_string(&log).unwrap_or_default()
        );
        address_in(&log)
    });
    let address = address.unwrap_or_else(|| {
        panic!("the registry does not listen: {}", fs::read_to_string(&log).unwrap_or_default())
    });
    Server { process, address }
}

/// The address that the registry says it listens on.
fn address_in(log: &Path) -> Option<SocketAddr> {
    let lines = BufReader::new(fs::File::open(log).ok()?).lines();
    lines.map_while(Result::ok).find_map(|line| {
        let (_, after) = line.split_once("listening on ")?;
        after.split([',', '"', ' ']).next()?.parse().ok()
    })
}

/// An authority, and a certificate of it for 127.0.0.1: `ca.pem`, `server.pem` and `server.key` in `directory`.
pub fn certify(directory: &Path) {
    let at = |name: &str| directory.join(name);
    let openssl = || {
        let mut command = Command::new("openssl");
        command.current_dir(directory);
        command
    };
    let key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    run(openssl()
        .args(key)
        .args(["-days", "2", "-subj", "/CN=isopod tests"])
        .args(["-keyout", "ca.key", "-out", "ca.pem"]));
    let request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    run(openssl().args(request).args(["-subj", "/CN=127.0.0.1"]).args([
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
    ]));
    let names = "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
    fs::write(at("names"), names).expect("a file");
    run(openssl()
        .args(["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key"])
        .args(["-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "server.pem"]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::busybox;
    use crate::layer::Compression;

    #[test]
    fn other_programs_read_what_is_pushed() {
        let registry = Registry::start(Scheme::Http);
        registry.push(&busybox(Compression::Gzip), "test/busybox:1");
        let shown = run(Command::new("skopeo")
            .args(["inspect", "--tls-verify=false"])
            .arg(format!("docker://{}", registry.reference("test/busybox:1"))));
        assert!(shown.contains("FROM_IMAGE=yes"), "{shown}");
    }
}
