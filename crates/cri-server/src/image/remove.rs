//! RemoveImage.

use cri_api::v1;
use tonic::{Response, Status};

use crate::parse::{self, At};
use crate::{Services, code};

/// An image that is not here is removed already.
pub(super) async fn remove(
    services: &Services,
    request: v1::RemoveImageRequest,
) -> Result<Response<v1::RemoveImageResponse>, Status> {
    let spec = parse::image_spec(At::field("image"), request.image.as_ref())
        .map_err(|bad| code::status(&bad))?;
    services.images.remove(&spec.image).await.map_err(|error| code::status(&error))?;
    Ok(Response::new(v1::RemoveImageResponse {}))
}
