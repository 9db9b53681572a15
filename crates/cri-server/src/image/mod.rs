//! The image service.

mod filesystem;
mod list;
mod pull;
mod remove;
mod status;

use cri_api::v1;
use cri_api::v1::image_service_server::ImageService;
use tonic::{Request, Response, Status};

use crate::stream::Streamed;
use crate::{Cri, front};

#[tonic::async_trait]
impl ImageService for Cri {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        list::list(&self.inner.services, request.into_inner())
    }

    type StreamImagesStream = Streamed<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        list::stream(&self.inner.services, request.into_inner())
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        let request = front::shown(request, |request| &mut request.verbose);
        status::status(&self.inner.services, request)
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        pull::pull(&self.inner.services, request.into_inner()).await
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        remove::remove(&self.inner.services, request.into_inner()).await
    }

    async fn image_fs_info(
        &self,
        _request: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        filesystem::info(&self.inner.services).await
    }
}
