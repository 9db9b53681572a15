//! Media types of the OCI image specification and of Docker's schema 2, and what they mean.

/// The media types that images use.
pub mod types {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, not compressed.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, not compressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, zstd.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
}

/// What a client asks for when it wants a manifest, the best first.
pub const MANIFEST_TYPES: [&str; 4] =
    [types::OCI_INDEX, types::OCI_MANIFEST, types::DOCKER_LIST, types::DOCKER_MANIFEST];

/// What kind of document a media type announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// One image's manifest.
    Manifest,
    /// A list of manifests.
    Index,
    /// Docker's schema 1, which is not supported.
    SchemaOne,
    /// A type that says nothing about what is inside (`application/json`, `text/plain`, …).
    Generic,
    /// Any other type: not a manifest at all.
    Other,
}

/// The kind of document of `media_type`; parameters such as a charset are ignored.
#[must_use]
pub fn document_kind(media_type: &str) -> DocumentKind {
    match bare(media_type).as_str() {
        types::OCI_MANIFEST | types::DOCKER_MANIFEST => DocumentKind::Manifest,
        types::OCI_INDEX | types::DOCKER_LIST => DocumentKind::Index,
        "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => DocumentKind::SchemaOne,
        ""
        | "application/json"
        | "text/plain"
        | "text/json"
        | "application/octet-stream"
        | "binary/octet-stream" => DocumentKind::Generic,
        _ => DocumentKind::Other,
    }
}

/// `media_type` without parameters, in lower case.
pub(crate) fn bare(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a manifest whose config has this type describes a root file system; other types belong
/// to artifacts (charts, modules, signatures).
#[must_use]
pub fn is_image_config(media_type: &str) -> bool {
    matches!(bare(media_type).as_str(), types::OCI_CONFIG | types::DOCKER_CONFIG)
}

/// How a layer's tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952; members may be concatenated.
    Gzip,
    /// RFC 8878; frames may be concatenated.
    Zstd,
}

/// Why a layer cannot be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsupportedReason {
    /// Its licence forbids the registry to hand it out, so it is not in the registry.
    NonDistributable,
    /// It is encrypted.
    Encrypted,
    /// Nothing is known about its type.
    UnknownType,
}

/// A layer of a type that cannot be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a layer of type {media_type:?} cannot be unpacked: {}", reason.text())]
pub struct UnsupportedLayer {
    /// The layer's type, cut after 160 characters.
    pub media_type: String,
    /// Why.
    pub reason: UnsupportedReason,
}

impl UnsupportedReason {
    const fn text(self) -> &'static str {
        match self {
            Self::NonDistributable => {
                "it is a non-distributable (foreign) layer, which registries do not hold"
            }
            Self::Encrypted => "it is encrypted",
            Self::UnknownType => "this is not a type of an image layer",
        }
    }
}

impl model::Classified for UnsupportedLayer {
    fn class(&self) -> model::Class {
        model::Class::Unimplemented
    }
}

/// How a layer of `media_type` is compressed.
///
/// # Errors
/// [`UnsupportedLayer`] for non-distributable, encrypted and unknown types.
pub fn layer_compression(media_type: &str) -> Result<Compression, UnsupportedLayer> {
    let bare = bare(media_type);
    let reason = match bare.as_str() {
        types::OCI_LAYER | types::DOCKER_LAYER => return Ok(Compression::None),
        types::OCI_LAYER_GZIP | types::DOCKER_LAYER_GZIP => return Ok(Compression::Gzip),
        types::OCI_LAYER_ZSTD | types::DOCKER_LAYER_ZSTD => return Ok(Compression::Zstd),
        t if t.ends_with("+encrypted") => UnsupportedReason::Encrypted,
        t if t.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || t.starts_with("application/vnd.docker.image.rootfs.foreign.") =>
        {
            UnsupportedReason::NonDistributable
        }
        _ => UnsupportedReason::UnknownType,
    };
    Err(UnsupportedLayer { media_type: media_type.chars().take(160).collect(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_types_tell_their_compression_or_why_they_cannot_be_unpacked() {
        for (t, want) in [
            (types::OCI_LAYER, Ok(Compression::None)),
            (types::OCI_LAYER_GZIP, Ok(Compression::Gzip)),
            (types::OCI_LAYER_ZSTD, Ok(Compression::Zstd)),
            (types::DOCKER_LAYER_GZIP, Ok(Compression::Gzip)),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                Err(UnsupportedReason::NonDistributable),
            ),
            (
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                Err(UnsupportedReason::NonDistributable),
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                Err(UnsupportedReason::Encrypted),
            ),
            ("application/vnd.erofs.layer.v1", Err(UnsupportedReason::UnknownType)),
        ] {
            assert_eq!(layer_compression(t).map_err(|e| e.reason), want, "{t}");
        }
    }

    #[test]
    fn parameters_and_case_of_a_media_type_do_not_matter() {
        let t = "Application/vnd.oci.image.manifest.v1+json; charset=utf-8";
        assert_eq!(document_kind(t), DocumentKind::Manifest);
        assert_eq!(document_kind("text/html"), DocumentKind::Other);
    }
}
