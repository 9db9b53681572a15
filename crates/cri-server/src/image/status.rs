//! ImageStatus.

use cri_api::v1;
use tonic::{Response, Status};

use crate::parse::{self, At};
use crate::{Services, code, render};

/// An image that is not here is an empty answer, not an error.
pub(super) fn status(
    services: &Services,
    request: v1::ImageStatusRequest,
) -> Result<Response<v1::ImageStatusResponse>, Status> {
    let spec = parse::image_spec(At::field("image"), request.image.as_ref())
        .map_err(|bad| code::status(&bad))?;
    let found = services.images.status(&spec.image).map_err(|error| code::status(&error))?;
    let mut answer = v1::ImageStatusResponse::default();
    if let Some(image) = found {
        if request.verbose {
            answer.info.insert("info".to_owned(), render::image_info(&image));
        }
        // The same whichever of its names was asked for.
        answer.image = Some(render::image(&image));
    }
    Ok(Response::new(answer))
}
