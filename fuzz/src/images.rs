//! Names, documents, configurations and layers of images; hosts files and policies.

use std::io::Read;

use image_store::tar::{Entry, Reader};
use oci_image::{
    Compression, ImageConfig, Manifest, Platform, Reference, check_layout_marker,
    layer_compression, parse_docker_archive,
};

use crate::pieces::Short;

/// The longest archive that is made of an input, in bytes.
const MOST: u64 = 4 << 20;

/// Names of images.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(reference) = Reference::parse(text) else { return };
    let again = Reference::parse(&reference.to_string());
    assert_eq!(again.ok().as_ref(), Some(&reference), "{text:?} changes when it is written out");
    assert!(!reference.repository().contains(".."), "{text:?} has a repository that climbs");
    assert!(reference.version().len() <= 256, "{text:?} has a long version");
    let _ = Reference::says_registry(text);
}

/// Manifests, indexes, and the tables of contents of archives.
pub fn document(data: &[u8]) {
    for announced in [None, Some("application/vnd.oci.image.manifest.v1+json"), Some("text/plain")]
    {
        match Manifest::parse(data, announced) {
            Ok(Manifest::Image(image)) => {
                let _ = image.total_size();
                let again = Manifest::parse(&image.to_json(), None);
                assert!(matches!(again, Ok(Manifest::Image(a)) if a.layers == image.layers));
                for layer in &image.layers {
                    let _ = layer_compression(&layer.media_type);
                }
                let _ = trust::signatures(&image);
            }
            Ok(Manifest::Index(index)) => {
                let _ = index.choose(&Platform::host());
                assert!(matches!(Manifest::parse(&index.to_json(), None), Ok(Manifest::Index(_))));
            }
            Err(_) => {}
        }
    }
    let _ = check_layout_marker(data);
    let _ = parse_docker_archive(data);
}

/// Configurations of images.
pub fn config(data: &[u8]) {
    if let Ok(config) = ImageConfig::parse(data) {
        assert!(config.diff_ids.len() <= oci_image::MAX_LAYERS);
    }
}

/// Layers: the first byte says how they are compressed.
pub fn archive(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let compression =
        [Compression::None, Compression::Gzip, Compression::Zstd][usize::from(first % 3)];
    let read = |size: usize| {
        let data = Short { inner: data, size };
        let reader: Box<dyn Read + '_> = match compression {
            Compression::None => Box::new(data),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(
                std::io::BufReader::with_capacity(size.clamp(1, 8192), data),
            )),
            Compression::Zstd => match zstd::Decoder::new(data) {
                Ok(decoder) => Box::new(decoder),
                Err(_) => return None,
            },
        };
        // Again cut, behind the decompression.
        Some(entries(Short { inner: reader.take(MOST), size }))
    };
    assert_eq!(read(usize::MAX), read(500), "another archive when it comes in pieces");
}

/// The entries of an archive, each with a checksum of its data, and why the archive ends.
fn entries(reader: impl Read) -> (Vec<(Entry, u32)>, Option<String>) {
    let mut tar = Reader::new(reader, 4096);
    let mut buffer = vec![0; 64 << 10];
    let mut all = Vec::new();
    loop {
        let entry = match tar.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => return (all, None),
            Err(error) => return (all, Some(error.to_string())),
        };
        assert!(entry.path.len() <= 4096 && entry.link.len() <= 4096, "a long name");
        assert!(!entry.path.contains(&0), "a NUL in a name");
        let kept: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(kept <= 4 << 20, "{kept} bytes of extended attributes");
        let _ = oci_image::layer_entry(&entry.path);
        let mut sum = flate2::Crc::new();
        loop {
            match tar.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => sum.update(&buffer[..n]),
            }
        }
        all.push((entry, sum.sum()));
    }
}

/// Files that say which hosts stand for a registry.
#[cfg(feature = "daemon")]
pub fn hosts(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = registry::check_hosts_file(text);
    }
}

/// Policies and the keys in them; signatures in bundles.
pub fn policy(data: &[u8]) {
    let _ = trust::Bundle::parse(data);
    let read = |_: &std::path::Path| Ok(data.to_vec());
    let _ = trust::Policy::parse(data, &read);
    let key = br#"{"default":[{"type":"sigstoreSigned","keyPath":"/k"}]}"#;
    let _ = trust::Policy::parse(key, &read);
    let authority = br#"{"default":[{"type":"sigstoreSigned","fulcio":{"caPath":"/k","oidcIssuer":"i","subjectEmail":"s"},"rekorPublicKeyPath":"/k"}]}"#;
    let _ = trust::Policy::parse(authority, &read);
}
