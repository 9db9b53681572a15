//! Images as archives, for runtimes that must be given one before the suite runs.

use serde_json::json;

use super::image::Image;
use super::layer::Layer;

/// What `docker save` writes for one image; `name` has a tag. Layers may stay compressed: all who
/// load such archives look at the bytes.
pub(crate) fn docker_save(image: &Image, name: &str) -> Vec<u8> {
    let config = image.config();
    let config_name = format!("{}.json", config.digest.trim_start_matches("sha256:"));
    let mut tar = Layer::new().file(&config_name, 0o644, &config.bytes);
    let mut layers = Vec::new();
    for layer in &image.layers {
        let directory = layer.digest.trim_start_matches("sha256:");
        let path = format!("{directory}/layer.tar");
        tar = tar.directory(directory, 0o755).file(&path, 0o644, &layer.bytes);
        layers.push(json!(path));
    }
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": layers }]);
    tar.file("manifest.json", 0o644, manifest.to_string().as_bytes()).tar()
}
