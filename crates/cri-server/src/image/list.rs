//! ListImages and StreamImages.

use cri_api::v1;
use tonic::{Response, Status};

use crate::stream::{Streamed, pieces};
use crate::{Services, code, render};

fn listed(services: &Services, filter: Option<v1::ImageFilter>) -> Result<Vec<v1::Image>, Status> {
    let wanted = filter.and_then(|filter| filter.image).map(|spec| spec.image);
    let images = services.images.list(wanted.as_deref()).map_err(|error| code::status(&error))?;
    Ok(images.iter().map(render::image).collect())
}

pub(super) fn list(
    services: &Services,
    request: v1::ListImagesRequest,
) -> Result<Response<v1::ListImagesResponse>, Status> {
    let images = listed(services, request.filter)?;
    Ok(Response::new(v1::ListImagesResponse { images }))
}

pub(super) fn stream(
    services: &Services,
    request: v1::StreamImagesRequest,
) -> Result<Response<Streamed<v1::StreamImagesResponse>>, Status> {
    let images = listed(services, request.filter)?;
    Ok(pieces(images, |images| v1::StreamImagesResponse { images }))
}
