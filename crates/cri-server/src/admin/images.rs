//! CheckImages, PruneImages and PushImage.

use admin_api::v1;
use images::{AuthParts, Damage, Mended, Prune, Repair};
use model::Secret;
use tonic::{Response, Status};

use crate::{Services, code};

pub(super) async fn check(
    services: &Services,
    request: v1::CheckImagesRequest,
) -> Result<Response<v1::CheckImagesReply>, Status> {
    let repair = if request.repair { Repair::Mend } else { Repair::None };
    let checked = services.images.check(repair).await.map_err(|error| code::status(&error))?;
    Ok(Response::new(v1::CheckImagesReply {
        layers: checked.layers as u64,
        files: checked.files as u64,
        damaged: checked.damaged.into_iter().map(damaged).collect(),
    }))
}

fn damaged(given: Damage) -> v1::DamagedLayer {
    let (mended, detail) = match given.mended {
        Mended::NotAsked => (v1::Mended::NotAsked, String::new()),
        Mended::From(place) => (v1::Mended::Whole, place),
        Mended::Removed | Mended::Gone => (v1::Mended::Removed, String::new()),
        Mended::InUse => (v1::Mended::InUse, String::new()),
        Mended::Failed(reason) => (v1::Mended::Failed, reason),
    };
    v1::DamagedLayer {
        chain_id: given.found.chain_id.to_string(),
        bad: given.found.bad as u64,
        problems: given.found.problems,
        images: given.images.iter().map(ToString::to_string).collect(),
        mended: mended.into(),
        detail,
    }
}

pub(super) async fn prune(
    services: &Services,
    request: v1::PruneImagesRequest,
) -> Result<Response<v1::PruneImagesReply>, Status> {
    let which = if request.all { Prune::All } else { Prune::Untagged };
    let pruned = services.images.prune(which).await.map_err(|error| code::status(&error))?;
    let images = pruned
        .images
        .into_iter()
        .map(|(id, names)| v1::LoadedImage { id: id.to_string(), names })
        .collect();
    Ok(Response::new(v1::PruneImagesReply { images, bytes: pruned.bytes }))
}

pub(super) async fn push(
    services: &Services,
    request: v1::PushImageRequest,
) -> Result<Response<v1::PushImageReply>, Status> {
    let v1::PushImageRequest { image, name, username, password } = request;
    let auth = AuthParts { username, password: Secret::new(password), ..AuthParts::default() };
    let name = Some(name).filter(|name| !name.is_empty());
    let pushed = services.images.push(&image, name.as_deref(), &auth).await;
    let pushed = pushed.map_err(|error| code::status(&error))?;
    Ok(Response::new(v1::PushImageReply { name: pushed.name, digest: pushed.digest.to_string() }))
}
