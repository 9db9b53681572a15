//! OCI layouts on this node, as sources of images.
//!
//! Always: nothing is written; every document and blob is compared with its digest; a directory that
//! cannot be read is passed over, with a line in the log.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Class, Digest};
use oci_image::{
    ANNOTATION_FULL_NAME, ANNOTATION_REF_NAME, Descriptor, Hasher, Index, LAYOUT_INDEX_FILE,
    LAYOUT_MARKER_FILE, MAX_MANIFEST, Manifest, Reference, blob_path, check_layout_marker,
};

use crate::ImagesError;
use crate::source::Top;

/// A directory with images.
#[derive(Debug, Clone)]
pub(crate) struct Layout(Arc<Path>);

/// The first of `directories` that has `reference`, and what it means there. Reads files.
pub(crate) fn find(directories: &[PathBuf], reference: &Reference) -> Option<(Layout, Top)> {
    for directory in directories {
        let layout = Layout(directory.as_path().into());
        match layout.top(reference) {
            Ok(Some(top)) => return Some((layout, top)),
            Ok(None) => {}
            Err(problem) => {
                let directory = directory.display();
                tracing::warn!(%directory, problem, "a directory of images cannot be used");
            }
        }
    }
    None
}

/// The first of `directories` that has the blob.
pub(crate) fn find_blob(directories: &[PathBuf], digest: &Digest) -> Option<File> {
    directories.iter().find_map(|d| File::open(d.join(blob_path(digest))).ok())
}

impl Layout {
    fn top(&self, reference: &Reference) -> Result<Option<Top>, String> {
        let marker = self.read_small(LAYOUT_MARKER_FILE)?;
        check_layout_marker(&marker).map_err(|e| e.to_string())?;
        let index = self.read_small(LAYOUT_INDEX_FILE)?;
        let parsed = Manifest::parse(&index, None).map_err(|e| e.to_string())?;
        let Manifest::Index(index) = parsed else {
            return Err(format!("{LAYOUT_INDEX_FILE} is no index"));
        };
        let Some(descriptor) = wanted(&index, reference) else { return Ok(None) };
        let bytes = self.read(&descriptor, MAX_MANIFEST).map_err(|e| e.to_string())?;
        Ok(Some(Top { descriptor, bytes }))
    }

    fn read_small(&self, name: &str) -> Result<Vec<u8>, String> {
        let say = |e: std::io::Error| format!("cannot read {name}: {e}");
        let mut bytes = Vec::new();
        let file = File::open(self.0.join(name)).map_err(say)?;
        file.take(MAX_MANIFEST + 1).read_to_end(&mut bytes).map_err(say)?;
        Ok(bytes)
    }

    /// The bytes of a blob. Whoever reads them compares the digest.
    pub fn open(&self, digest: &Digest) -> Result<File, ImagesError> {
        let path = self.0.join(blob_path(digest));
        File::open(&path).map_err(|e| unreadable(&path, &e))
    }

    /// A small blob, verified.
    pub async fn bytes(&self, descriptor: Descriptor, most: u64) -> Result<Vec<u8>, ImagesError> {
        let layout = self.clone();
        match tokio::task::spawn_blocking(move || layout.read(&descriptor, most)).await {
            Ok(done) => done,
            Err(e) => Err(ImagesError::Interrupted { what: e.to_string() }),
        }
    }

    fn read(&self, descriptor: &Descriptor, most: u64) -> Result<Vec<u8>, ImagesError> {
        let path = self.0.join(blob_path(&descriptor.digest));
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(|e| unreadable(&path, &e))?;
        file.take(most + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&path, &e))?;
        let mut hasher = Hasher::like(&descriptor.digest);
        hasher.update(&bytes);
        let found = hasher.finish();
        if found == descriptor.digest {
            return Ok(bytes);
        }
        let expected = descriptor.digest.clone();
        Err(ImagesError::Digest { object: path.display().to_string(), expected, found })
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> ImagesError {
    ImagesError::Unusable {
        object: path.display().to_string(),
        problem: error.to_string(),
        class: Class::of_io(error),
    }
}

/// The entry of an index for `reference`: by digest, or by a whole name in its annotations.
fn wanted(index: &Index, reference: &Reference) -> Option<Descriptor> {
    let fits = |d: &&Descriptor| match reference.digest() {
        Some(digest) => d.digest == *digest,
        None => [ANNOTATION_FULL_NAME, ANNOTATION_REF_NAME]
            .iter()
            .filter_map(|key| d.annotations.get(*key))
            // A tag alone says nothing about the repository.
            .filter(|name| name.contains(['/', ':']))
            .filter_map(|name| Reference::parse(name).ok())
            .any(|r| r.name() == reference.name() && r.version() == reference.version()),
    };
    index.manifests.iter().find(fits).cloned()
}
