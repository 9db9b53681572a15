//! Layers: tars made by hand, so that they can hold what no honest program writes.

use std::io::Write;

use sha2::{Digest as _, Sha256};

/// Bytes with a type and a digest, as a registry stores them.
#[derive(Debug, Clone)]
pub struct Blob {
    /// What it is.
    pub media_type: String,
    /// `sha256:…` of the bytes.
    pub digest: String,
    /// Of the uncompressed tar, where it is a layer.
    pub diff_id: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// Bytes that are no layer.
    #[must_use]
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        let digest = digest(&bytes);
        Self { media_type: media_type.to_owned(), diff_id: digest.clone(), digest, bytes }
    }

    /// Its descriptor.
    #[must_use]
    pub fn descriptor(&self) -> serde_json::Value {
        serde_json::json!({
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.bytes.len(),
        })
    }
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// `sha256:` and the hash of bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar that grows.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    tar: Vec<u8>,
}

/// One entry's head: who owns it and how it may be used.
#[derive(Debug, Clone, Copy)]
struct Head<'a> {
    path: &'a str,
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    link: &'a str,
    size: usize,
}

impl Layer {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(Head { path, kind: b'5', mode, owner: (0, 0), link: "", size: 0 }, b"")
    }

    /// A file of root's.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.owned_file(path, mode, (0, 0), content)
    }

    /// A file of somebody's.
    #[must_use]
    pub fn owned_file(self, path: &str, mode: u32, owner: (u32, u32), content: &[u8]) -> Self {
        let head = Head { path, kind: b'0', mode, owner, link: "", size: content.len() };
        self.entry(head, content)
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, link: &str) -> Self {
        self.entry(Head { path, kind: b'2', mode: 0o777, owner: (0, 0), link, size: 0 }, b"")
    }

    /// A hard link.
    #[must_use]
    pub fn hard_link(self, path: &str, link: &str) -> Self {
        self.entry(Head { path, kind: b'1', mode: 0o644, owner: (0, 0), link, size: 0 }, b"")
    }

    /// The mark that removes `name` of the layers below from `directory`.
    #[must_use]
    pub fn whiteout(self, directory: &str, name: &str) -> Self {
        self.file(&format!("{directory}/.wh.{name}"), 0o644, b"")
    }

    /// The end, and the bytes as a registry has them.
    ///
    /// # Panics
    /// Never: writing to memory does not fail.
    #[must_use]
    pub fn build(mut self, compression: Compression) -> Blob {
        self.tar.resize(self.tar.len() + 1024, 0);
        let diff_id = digest(&self.tar);
        let (suffix, bytes) = match compression {
            Compression::Plain => ("", self.tar),
            Compression::Gzip => {
                let level = flate2::Compression::fast();
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
                gzip.write_all(&self.tar).expect("memory takes all bytes");
                ("+gzip", gzip.finish().expect("memory takes all bytes"))
            }
            Compression::Zstd => {
                let bytes = zstd::stream::encode_all(&self.tar[..], 1);
                ("+zstd", bytes.expect("memory takes all bytes"))
            }
        };
        let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
        Blob { media_type, digest: digest(&bytes), diff_id, bytes }
    }

    /// ustar (POSIX.1-1988): names up to 100 bytes, which is all that tests need.
    fn entry(mut self, head: Head<'_>, content: &[u8]) -> Self {
        self.tar.extend_from_slice(&head.block());
        self.tar.extend_from_slice(content);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    /// What stands before the content of a file.
    pub(crate) fn head_of_file(path: &str, size: usize) -> [u8; 512] {
        Head { path, kind: b'0', mode: 0o644, owner: (0, 0), link: "", size }.block()
    }
}

impl Head<'_> {
    fn block(&self) -> [u8; 512] {
        let mut block = [0_u8; 512];
        put(&mut block, 0..100, self.path.as_bytes());
        put(&mut block, 100..108, format!("{:07o}", self.mode).as_bytes());
        put(&mut block, 108..116, format!("{:07o}", self.owner.0).as_bytes());
        put(&mut block, 116..124, format!("{:07o}", self.owner.1).as_bytes());
        put(&mut block, 124..136, format!("{:011o}", self.size).as_bytes());
        put(&mut block, 136..148, b"14000000000");
        block[148..156].fill(b' ');
        block[156] = self.kind;
        put(&mut block, 157..257, self.link.as_bytes());
        put(&mut block, 257..265, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut block, 148..156, format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

fn put(block: &mut [u8; 512], place: std::ops::Range<usize>, bytes: &[u8]) {
    assert!(bytes.len() <= place.len(), "a name is too long for this tar");
    block[place.start..place.start + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_reads_what_a_layer_holds() {
        let layer = Layer::new()
            .directory("etc", 0o755)
            .file("etc/name", 0o600, b"isopod\n")
            .symlink("link", "etc/name")
            .build(Compression::Plain);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layer.tar");
        std::fs::write(&path, &layer.bytes).unwrap();
        let list = crate::host::run(std::process::Command::new("tar").arg("-tvf").arg(&path));
        let lines: Vec<&str> = list.lines().collect();
        assert!(lines[0].starts_with("drwxr-xr-x 0/0"), "{list}");
        assert!(lines[1].starts_with("-rw------- 0/0"), "{list}");
        assert!(lines[2].ends_with("link -> etc/name"), "{list}");
    }
}
