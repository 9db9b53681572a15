//! The image service.

use std::pin::Pin;
use std::sync::Arc;

use cri_api::v1::image_service_server::ImageService;
use cri_api::v1::*;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::fault::Fault;
use crate::pull::pull;
use crate::reference::Reference;
use crate::world::{StoredImage, Tables, World, now};

/// Serves images.
#[derive(Debug)]
pub(crate) struct Images(pub Arc<World>);

/// The id of the image that a reference, an id or an answer of a pull means.
pub(crate) fn find(tables: &Tables, name: &str) -> Option<String> {
    if tables.images.contains_key(name) {
        return Some(name.to_owned());
    }
    let wanted = Reference::parse(name)?.full();
    let has = |image: &StoredImage| image.tags.contains(&wanted) || image.digests.contains(&wanted);
    tables.images.iter().find(|(_, image)| has(image)).map(|(id, _)| id.clone())
}

fn shown(world: &World, id: &str, image: &StoredImage) -> Image {
    let user = image.user.split(':').next().unwrap_or_default();
    let number = user.parse::<i64>().ok();
    let number = if world.has(Fault::UserZero) { number.or(Some(0)) } else { number };
    let is_name = user.parse::<i64>().is_err();
    Image {
        id: id.to_owned(),
        repo_tags: image.tags.clone(),
        repo_digests: if world.has(Fault::DigestsLost) {
            Vec::new()
        } else {
            image.digests.clone()
        },
        size: image.size,
        uid: number.filter(|_| !user.is_empty()).map(|value| Int64Value { value }),
        username: if is_name { user.to_owned() } else { String::new() },
        spec: None,
        pinned: false,
    }
}

fn name_of(image: Option<ImageSpec>) -> Result<String, Status> {
    let name = image.map(|image| image.image).unwrap_or_default();
    if name.is_empty() {
        return Err(Status::invalid_argument("image is missing"));
    }
    Ok(name)
}

impl Images {
    fn list(&self, filter: Option<ImageFilter>) -> Vec<Image> {
        let name = filter.and_then(|filter| filter.image).map(|image| image.image);
        let tables = self.0.lock();
        match name.filter(|name| !name.is_empty()) {
            None => tables.images.iter().map(|(id, image)| shown(&self.0, id, image)).collect(),
            Some(name) => {
                let id = find(&tables, &name);
                let image = id.and_then(|id| tables.images.get_key_value(&id));
                image.map(|(id, image)| shown(&self.0, id, image)).into_iter().collect()
            }
        }
    }
}

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ImageService for Images {
    type StreamImagesStream = Parts<StreamImagesResponse>;

    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        self.0.script.play("ListImages", "").await?;
        Ok(Response::new(ListImagesResponse { images: self.list(request.into_inner().filter) }))
    }

    async fn stream_images(
        &self,
        request: Request<StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        self.0.script.play("StreamImages", "").await?;
        let images = self.list(request.into_inner().filter);
        let part = Ok(StreamImagesResponse { images });
        Ok(Response::new(Box::pin(tokio_stream::once(part))))
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let name = name_of(request.image)?;
        self.0.script.play("ImageStatus", &name).await?;
        let tables = self.0.lock();
        let id = find(&tables, &name);
        let image =
            id.and_then(|id| tables.images.get(&id).map(|image| shown(&self.0, &id, image)));
        if image.is_none() && self.0.has(Fault::AbsentImage) {
            return Err(Status::not_found(format!("there is no image {name:?}")));
        }
        let info = crate::runtime::info(&self.0, request.verbose);
        Ok(Response::new(ImageStatusResponse { image, info }))
    }

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<PullImageResponse>, Status> {
        let request = request.into_inner();
        let name = name_of(request.image)?;
        self.0.script.play("PullImage", &name).await?;
        let reference = Reference::parse(&name)
            .ok_or_else(|| Status::invalid_argument(format!("{name:?} is no reference")))?;
        let image_ref = pull(&self.0, &reference, request.auth.as_ref()).await?;
        Ok(Response::new(PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        let name = name_of(request.into_inner().image)?;
        self.0.script.play("RemoveImage", &name).await?;
        let mut tables = self.0.lock();
        if let Some(id) = find(&tables, &name) {
            let tag = Reference::parse(&name).map(|reference| reference.full());
            match tables.images.get_mut(&id) {
                Some(image) if self.0.has(Fault::NamesStay) && image.tags.len() > 1 => {
                    image.tags.retain(|known| Some(known) != tag.as_ref());
                }
                Some(_) | None => drop(tables.images.remove(&id)),
            }
        }
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _request: Request<ImageFsInfoRequest>,
    ) -> Result<Response<ImageFsInfoResponse>, Status> {
        let used = self.0.lock().images.values().map(|image| image.size).sum::<u64>() + 1;
        let usage = FilesystemUsage {
            timestamp: now(),
            fs_id: Some(FilesystemIdentifier { mountpoint: "/tmp".to_owned() }),
            used_bytes: Some(UInt64Value { value: used }),
            inodes_used: Some(UInt64Value { value: 1 }),
        };
        let container_filesystems = vec![usage.clone()];
        let image_filesystems = vec![usage];
        Ok(Response::new(ImageFsInfoResponse { image_filesystems, container_filesystems }))
    }
}
