//! Layers too large for memory, written straight into the registry's own store.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};

use sha2::{Digest as _, Sha256};

use crate::layer::{Layer, hex};
use crate::registry::Registry;

/// A layer that the registry has.
#[derive(Debug, Clone)]
pub struct LargeLayer {
    /// Its descriptor, as a manifest has it.
    pub descriptor: serde_json::Value,
    /// `sha256:…` of the uncompressed tar.
    pub diff_id: String,
}

impl Registry {
    /// Puts a gzip layer of `files` files into a repository; each has `times` times `content`, which is whole
    /// blocks of a tar and is compressed once: members of gzip may follow each other (RFC 1952, section 2.2).
    ///
    /// # Errors
    /// The registry's store cannot be written.
    ///
    /// # Panics
    /// Where `content` is not whole blocks.
    pub fn push_large_layer(
        &self,
        repository: &str,
        (name, files): (&str, usize),
        (content, times): (&[u8], usize),
    ) -> io::Result<LargeLayer> {
        assert_eq!(content.len() % 512, 0, "whole blocks");
        let store = self.store();
        let path = store.join("large");
        let mut out = Out::new(File::create(&path)?);
        let member = compressed(content)?;
        for file in 0..files {
            let head = Layer::head_of_file(&format!("{name}-{file}"), content.len() * times);
            out.put(&head, &compressed(&head)?)?;
            for _ in 0..times {
                out.put(content, &member)?;
            }
        }
        let end = [0; 1024];
        out.put(&end, &compressed(&end)?)?;
        let (digest, diff_id, size) = out.finish()?;
        let blob = store.join("blobs/sha256").join(&digest[..2]).join(&digest);
        fs::create_dir_all(&blob)?;
        fs::rename(path, blob.join("data"))?;
        let link = store.join("repositories").join(repository).join("_layers/sha256").join(&digest);
        fs::create_dir_all(&link)?;
        fs::write(link.join("link"), format!("sha256:{digest}"))?;
        let descriptor = serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": format!("sha256:{digest}"),
            "size": size,
        });
        Ok(LargeLayer { descriptor, diff_id: format!("sha256:{diff_id}") })
    }
}

fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes)?;
    gzip.finish()
}

/// A file that is hashed as it is written, and what it is when it is decompressed.
struct Out {
    file: BufWriter<File>,
    blob: Sha256,
    tar: Sha256,
    size: usize,
}

impl Out {
    fn new(file: File) -> Self {
        Self { file: BufWriter::new(file), blob: Sha256::new(), tar: Sha256::new(), size: 0 }
    }

    fn put(&mut self, plain: &[u8], compressed: &[u8]) -> io::Result<()> {
        self.tar.update(plain);
        self.blob.update(compressed);
        self.size += compressed.len();
        self.file.write_all(compressed)
    }

    fn finish(mut self) -> io::Result<(String, String, usize)> {
        self.file.flush()?;
        Ok((hex(&self.blob.finalize()), hex(&self.tar.finalize()), self.size))
    }
}
