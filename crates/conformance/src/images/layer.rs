//! Layers: tars written by hand, so that they can hold what no honest program writes.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::Range;

use hyper::body::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Bytes with a type and a digest, as a registry stores them. Clones share the bytes.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub media_type: String,
    /// `sha256:…` of the bytes.
    pub digest: String,
    /// Of the uncompressed tar, where it is a layer.
    pub diff_id: String,
    pub bytes: Bytes,
}

impl Blob {
    /// Bytes that are no layer.
    pub(crate) fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        let digest = digest(&bytes);
        let (media_type, diff_id) = (media_type.to_owned(), digest.clone());
        Self { media_type, diff_id, digest, bytes: bytes.into() }
    }

    /// Its descriptor.
    pub(crate) fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.bytes.len(),
        })
    }
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// `sha256:` and the hash of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A tar that grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layer {
    tar: Vec<u8>,
}

struct Head<'a> {
    path: &'a str,
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    link: &'a str,
    size: usize,
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(&Head { path, kind: b'5', mode, owner: (0, 0), link: "", size: 0 }, b"")
    }

    pub(crate) fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.owned_file(path, mode, (0, 0), content)
    }

    pub(crate) fn owned_file(
        self,
        path: &str,
        mode: u32,
        owner: (u32, u32),
        content: &[u8],
    ) -> Self {
        let size = content.len();
        self.entry(&Head { path, kind: b'0', mode, owner, link: "", size }, content)
    }

    pub(crate) fn symlink(self, path: &str, link: &str) -> Self {
        self.entry(&Head { path, kind: b'2', mode: 0o777, owner: (0, 0), link, size: 0 }, b"")
    }

    /// With mode and owner of the file that it is, as tar(1) writes them: there are runtimes that set them again.
    pub(crate) fn hard_link(self, path: &str, link: &str, mode: u32, owner: (u32, u32)) -> Self {
        self.entry(&Head { path, kind: b'1', mode, owner, link, size: 0 }, b"")
    }

    /// The mark that removes `name` of the layers below from `directory` (OCI image layer, whiteouts).
    pub(crate) fn whiteout(self, directory: &str, name: &str) -> Self {
        self.file(&format!("{directory}/.wh.{name}"), 0o644, b"")
    }

    /// The tar as it is, ended.
    pub(crate) fn tar(mut self) -> Vec<u8> {
        self.tar.resize(self.tar.len() + 1024, 0);
        self.tar
    }

    /// The bytes as a registry has them.
    pub(crate) fn build(self, compression: Compression) -> io::Result<Blob> {
        let tar = self.tar();
        let diff_id = digest(&tar);
        let (suffix, bytes) = match compression {
            Compression::Plain => ("", tar),
            Compression::Gzip => {
                let level = flate2::Compression::fast();
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
                gzip.write_all(&tar)?;
                ("+gzip", gzip.finish()?)
            }
            Compression::Zstd => ("+zstd", zstd::stream::encode_all(&tar[..], 1)?),
        };
        let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
        Ok(Blob { media_type, digest: digest(&bytes), diff_id, bytes: bytes.into() })
    }

    /// ustar (POSIX.1-1988): names up to 100 bytes, which is all that is needed here.
    fn entry(mut self, head: &Head<'_>, content: &[u8]) -> Self {
        let mut block = [0_u8; 512];
        put(&mut block, 0..100, head.path.as_bytes());
        put(&mut block, 100..108, format!("{:07o}", head.mode).as_bytes());
        put(&mut block, 108..116, format!("{:07o}", head.owner.0).as_bytes());
        put(&mut block, 116..124, format!("{:07o}", head.owner.1).as_bytes());
        put(&mut block, 124..136, format!("{:011o}", head.size).as_bytes());
        put(&mut block, 136..148, b"14000000000");
        block[148..156].fill(b' ');
        block[156] = head.kind;
        put(&mut block, 157..257, head.link.as_bytes());
        put(&mut block, 257..265, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut block, 148..156, format!("{sum:06o}\0 ").as_bytes());
        self.tar.extend_from_slice(&block);
        self.tar.extend_from_slice(content);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }
}

/// Writes as much of `bytes` as its place holds.
fn put(block: &mut [u8; 512], place: Range<usize>, bytes: &[u8]) {
    let count = bytes.len().min(place.len());
    block[place.start..place.start + count].copy_from_slice(&bytes[..count]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_block_with_a_sum_and_its_content_in_whole_blocks() {
        let tar = Layer::new().file("a", 0o600, b"content").tar();
        assert_eq!(tar.len(), 512 + 512 + 1024);
        assert_eq!(&tar[..2], b"a\0");
        assert_eq!(&tar[512..519], b"content");
        let without_sum: u32 = tar[..148].iter().chain(&tar[156..512]).map(|b| u32::from(*b)).sum();
        let sum = without_sum + 8 * u32::from(b' ');
        assert_eq!(&tar[148..154], format!("{sum:06o}").as_bytes());
    }
}
