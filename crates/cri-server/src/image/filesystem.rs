//! ImageFsInfo.

use cri_api::v1;
use tonic::{Response, Status};

use crate::{Services, code, render};

/// The kubelet takes two different mount points for two file systems, so both say the same one where
/// there is only one.
pub(super) async fn info(services: &Services) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
    let info = services.images.fs_info().await.map_err(|error| code::status(&error))?;
    let images = render::filesystem(&info.images);
    let mut containers = render::filesystem(&info.containers);
    if info.is_shared {
        containers.fs_id.clone_from(&images.fs_id);
    }
    Ok(Response::new(v1::ImageFsInfoResponse {
        image_filesystems: vec![images],
        container_filesystems: vec![containers],
    }))
}
