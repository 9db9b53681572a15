//! The service of the command line, beyond the CRI.

mod archive;
mod explain;
mod images;
mod named;
mod networks;
mod operation;
mod progress;
mod waits;

use admin_api::v1;
use admin_api::v1::admin_server::{Admin, AdminServer};
use tonic::{Request, Response, Status, Streaming};

use crate::stream::Streamed;
use crate::{Cri, code};

impl Cri {
    /// The service of the command line.
    #[must_use]
    pub fn admin_service(&self) -> AdminServer<Self> {
        AdminServer::new(self.clone())
    }
}

#[tonic::async_trait]
impl Admin for Cri {
    async fn load_image(
        &self,
        request: Request<Streaming<v1::LoadChunk>>,
    ) -> Result<Response<v1::LoadReply>, Status> {
        archive::load(&self.inner.services, request.into_inner()).await
    }

    type SaveImageStream = Streamed<v1::SaveChunk>;

    async fn save_image(
        &self,
        request: Request<v1::SaveRequest>,
    ) -> Result<Response<Self::SaveImageStream>, Status> {
        archive::save(&self.inner.services, request.into_inner())
    }

    async fn tag_image(
        &self,
        request: Request<v1::TagRequest>,
    ) -> Result<Response<v1::TagReply>, Status> {
        let v1::TagRequest { image, name } = request.into_inner();
        let tagged = self.inner.services.images.tag(&image, &name).await;
        let tagged = tagged.map_err(|error| code::status(&error))?;
        Ok(Response::new(v1::TagReply { id: tagged.id.to_string(), name }))
    }

    async fn check_images(
        &self,
        request: Request<v1::CheckImagesRequest>,
    ) -> Result<Response<v1::CheckImagesReply>, Status> {
        images::check(&self.inner.services, request.into_inner()).await
    }

    async fn prune_images(
        &self,
        request: Request<v1::PruneImagesRequest>,
    ) -> Result<Response<v1::PruneImagesReply>, Status> {
        images::prune(&self.inner.services, request.into_inner()).await
    }

    async fn push_image(
        &self,
        request: Request<v1::PushImageRequest>,
    ) -> Result<Response<v1::PushImageReply>, Status> {
        images::push(&self.inner.services, request.into_inner()).await
    }

    async fn list_operations(
        &self,
        request: Request<v1::ListOperationsRequest>,
    ) -> Result<Response<v1::ListOperationsReply>, Status> {
        Ok(operation::list(&self.inner.services, &request.into_inner()))
    }

    type PullProgressStream = Streamed<v1::PullProgressReply>;

    async fn pull_progress(
        &self,
        request: Request<v1::PullProgressRequest>,
    ) -> Result<Response<Self::PullProgressStream>, Status> {
        let v1::PullProgressRequest { reference, wait } = request.into_inner();
        Ok(progress::watch(self.inner.services.images.clone(), reference, wait))
    }

    async fn reload_config(
        &self,
        _request: Request<v1::ReloadConfigRequest>,
    ) -> Result<Response<v1::ReloadConfigReply>, Status> {
        let reloaded = self.inner.services.host.reload()?;
        Ok(Response::new(v1::ReloadConfigReply {
            changed: reloaded.changed,
            needs_restart: reloaded.needs_restart,
        }))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainReply>, Status> {
        explain::explain(&self.inner.services, &request.into_inner().object).await
    }

    async fn metrics(
        &self,
        _request: Request<v1::MetricsRequest>,
    ) -> Result<Response<v1::MetricsReply>, Status> {
        let text = self.inner.services.host.metrics().await;
        Ok(Response::new(v1::MetricsReply { text }))
    }

    async fn network_status(
        &self,
        _request: Request<v1::NetworkStatusRequest>,
    ) -> Result<Response<v1::NetworkStatusReply>, Status> {
        networks::status(&self.inner.services).await
    }

    async fn check_networks(
        &self,
        request: Request<v1::CheckNetworksRequest>,
    ) -> Result<Response<v1::CheckNetworksReply>, Status> {
        networks::check(&self.inner.services, &request.into_inner()).await
    }

    async fn collect_networks(
        &self,
        _request: Request<v1::CollectNetworksRequest>,
    ) -> Result<Response<v1::CollectNetworksReply>, Status> {
        networks::collect(&self.inner.services).await
    }
}
