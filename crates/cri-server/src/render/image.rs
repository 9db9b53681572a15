//! Images.

use cri_api::v1;
use images::{FsUsage, Image};
use model::{ImageSpec, ImageUser};
use serde_json::json;

/// The image as it was named.
pub(crate) fn image_spec(given: &ImageSpec) -> v1::ImageSpec {
    v1::ImageSpec {
        image: given.image.clone(),
        annotations: given.annotations.clone(),
        user_specified_image: given.user_specified_image.clone(),
        runtime_handler: given.runtime_handler.clone(),
        image_ref: given.image_ref.clone(),
    }
}

/// An image of this node.
pub(crate) fn image(given: &Image) -> v1::Image {
    let (uid, username) = match given.config.image_user() {
        Some(ImageUser::Uid(uid)) => {
            (Some(v1::Int64Value { value: i64::from(uid) }), String::new())
        }
        Some(ImageUser::Name(name)) => (None, name),
        None => (None, String::new()),
    };
    let id = given.id.to_string();
    v1::Image {
        spec: Some(v1::ImageSpec { image: id.clone(), ..Default::default() }),
        id,
        repo_tags: given.repo_tags.clone(),
        repo_digests: given.repo_digests.clone(),
        size: given.size,
        uid,
        username,
        pinned: given.pinned,
    }
}

/// What a verbose status tells more, as one JSON text. The image's environment is public, as the image is.
pub(crate) fn image_info(given: &Image) -> String {
    let config = &given.config;
    json!({
        "chainID": given.layers.last(),
        "layers": given.layers,
        "imageSpec": {
            "created": config.created,
            "architecture": config.architecture,
            "os": config.os,
            "variant": config.variant,
            "config": {
                "User": config.user,
                "Env": config.env,
                "Entrypoint": config.entrypoint,
                "Cmd": config.cmd,
                "WorkingDir": config.working_dir,
                "StopSignal": config.stop_signal,
                "Volumes": config.volumes,
                "ExposedPorts": config.exposed_ports,
                "Labels": config.labels,
            },
        },
    })
    .to_string()
}

/// Space taken on one file system.
pub(crate) fn filesystem(given: &FsUsage) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: given.at.0,
        fs_id: Some(v1::FilesystemIdentifier {
            mountpoint: given.mountpoint.display().to_string(),
        }),
        used_bytes: Some(v1::UInt64Value { value: given.used.bytes }),
        inodes_used: Some(v1::UInt64Value { value: given.used.inodes }),
    }
}
