//! PullImage.

use cri_api::v1;
use operations::Origin;
use tonic::{Response, Status};

use crate::parse::{self, At};
use crate::{Services, asked, code};

pub(super) async fn pull(
    services: &Services,
    request: v1::PullImageRequest,
) -> Result<Response<v1::PullImageResponse>, Status> {
    let spec = parse::image_spec(At::field("image"), request.image.as_ref())
        .map_err(|bad| code::status(&bad))?;
    let credentials = match request.auth {
        Some(auth) => {
            let (server, parts) = parse::auth(auth);
            images::credentials(&spec.image, &server, &parts).map_err(|bad| code::status(&bad))?
        }
        None => None,
    };
    let asked = asked::image(&spec.image, credentials.is_some());
    let pod = request.sandbox_config.and_then(|config| config.metadata);
    let pod = pod.map(|pod| format!("{}/{}", pod.namespace, pod.name));
    let origin = Origin { pod, asked, ..Origin::current() };
    let pull = operations::asked_by(origin, services.images.pull(&spec, credentials));
    let pulled = pull.await.map_err(|error| code::status(&error))?;
    Ok(Response::new(v1::PullImageResponse { image_ref: pulled.id.to_string() }))
}
