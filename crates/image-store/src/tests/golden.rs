//! Records that the first version wrote are read by this one. The files are never written again.

use std::path::Path;

use oci_image::ImageConfig;

use crate::records::{ContainerRecord, ImageRecord, LayerRecord, NameRecord};

fn golden<R: ::store::Record>(name: &str) -> R {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    ::store::read_record(&path).unwrap().expect(name)
}

#[test]
fn records_of_version_1_are_read_and_belong_together() {
    let layer: LayerRecord = golden("layer-1");
    assert!(layer.parent.is_none() && layer.bytes > 0 && layer.inodes > 0);
    let image: ImageRecord = golden("image-1");
    assert_eq!(image.layers, std::slice::from_ref(&layer.chain_id));
    let config = ImageConfig::parse(image.config.as_bytes()).unwrap();
    assert_eq!(config.diff_ids, [layer.diff_id]);
    let name: NameRecord = golden("image-name-1");
    assert_eq!(name.image, image.id);
    let used: ContainerRecord = golden("image-use-1");
    assert_eq!(used.root.as_deref(), Some(&image.layers[..]));
}
