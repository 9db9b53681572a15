//! Images as archives: OCI image layouts and what `docker save` writes.

use serde_json::{Value, json};

use crate::image::Image;
use crate::layer::{Compression, Layer};

/// A tar of an OCI image layout; each image with a name for `org.opencontainers.image.ref.name`.
#[must_use]
pub fn oci_layout(images: &[(&Image, &str)]) -> Vec<u8> {
    let mut tar = Layer::new()
        .file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
        .directory("blobs", 0o755)
        .directory("blobs/sha256", 0o755);
    let mut manifests = Vec::new();
    for (image, name) in images {
        let (config, manifest) = (image.config(), image.manifest());
        let mut descriptor = manifest.descriptor();
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        manifests.push(descriptor);
        for blob in image.layers.iter().chain([&config, &manifest]) {
            let hex = blob.digest.trim_start_matches("sha256:");
            tar = tar.file(&format!("blobs/sha256/{hex}"), 0o644, &blob.bytes);
        }
    }
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    tar.file("index.json", 0o644, index.to_string().as_bytes()).build(Compression::Plain).bytes
}

/// What `docker save` writes for one image whose layers are plain; `name` has a tag.
#[must_use]
pub fn docker_save(image: &Image, name: &str) -> Vec<u8> {
    let config = image.config();
    let config_name = format!("{}.json", config.digest.trim_start_matches("sha256:"));
    let mut tar = Layer::new().file(&config_name, 0o644, &config.bytes);
    let mut layers: Vec<Value> = Vec::new();
    for layer in &image.layers {
        let directory = layer.digest.trim_start_matches("sha256:");
        let path = format!("{directory}/layer.tar");
        tar = tar.directory(directory, 0o755).file(&path, 0o644, &layer.bytes);
        layers.push(json!(path));
    }
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": layers }]);
    tar.file("manifest.json", 0o644, manifest.to_string().as_bytes())
        .build(Compression::Plain)
        .bytes
}
