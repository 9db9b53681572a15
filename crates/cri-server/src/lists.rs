//! ListContainers and ListPodSandbox, which a kubelet asks for every second.
//!
//! A status never changes, and neither does what a list says of it: it is encoded when the first list asks and kept
//! with the status ([`pods::Kept`]), so that a list puts bytes together. The generated service takes messages only.
//! So these two calls are answered here, before they come to it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use cri_api::v1;
use cri_api::v1::runtime_service_server::RuntimeServiceServer;
use pods::{ContainerStatus, SandboxStatus};
use prost::Message;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::runtime::{container, sandbox};
use crate::{Cri, MAX_MESSAGE_BYTES, Services, render};

/// An answer that is a list: a ListContainersResponse or a ListPodSandboxResponse, whose one field repeated messages
/// and repeated bytes have the same encoding for (Protocol Buffers, "Encoding", length-delimited records).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Items {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    items: Vec<Bytes>,
}

impl Items {
    pub(crate) fn of_containers<'a>(all: impl Iterator<Item = &'a ContainerStatus>) -> Self {
        let item = |one: &ContainerStatus| render::container_item(one).encode_to_vec().into();
        Self { items: all.map(|one| one.listed.get(|| item(one))).collect() }
    }

    pub(crate) fn of_sandboxes<'a>(all: impl Iterator<Item = &'a SandboxStatus>) -> Self {
        let item = |one: &SandboxStatus| render::sandbox_item(one).encode_to_vec().into();
        Self { items: all.map(|one| one.listed.get(|| item(one))).collect() }
    }

    /// The message that it is for whoever reads it.
    pub(crate) fn as_message<T: Message + Default>(&self) -> Result<T, Status> {
        T::decode(&*self.encode_to_vec()).map_err(|error| Status::internal(error.to_string()))
    }
}

/// The runtime service as a socket has it.
#[derive(Debug, Clone)]
pub struct RuntimeServer {
    cri: Cri,
    rest: RuntimeServiceServer<Cri>,
}

impl RuntimeServer {
    pub(crate) fn new(cri: Cri) -> Self {
        let rest = RuntimeServiceServer::new(cri.clone());
        Self { cri, rest: rest.max_decoding_message_size(MAX_MESSAGE_BYTES) }
    }
}

impl NamedService for RuntimeServer {
    const NAME: &'static str = <RuntimeServiceServer<Cri> as NamedService>::NAME;
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl Service<http::Request<Body>> for RuntimeServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        match request.uri().path() {
            "/runtime.v1.RuntimeService/ListContainers" => {
                Box::pin(answer::<v1::ListContainersRequest>(
                    self.cri.clone(),
                    request,
                    |s, asked| container::items(s, asked.filter),
                ))
            }
            "/runtime.v1.RuntimeService/ListPodSandbox" => {
                Box::pin(answer::<v1::ListPodSandboxRequest>(
                    self.cri.clone(),
                    request,
                    |s, asked| sandbox::items(s, asked.filter),
                ))
            }
            _ => self.rest.call(request),
        }
    }
}

async fn answer<T: Message + Default + 'static>(
    cri: Cri,
    request: http::Request<Body>,
    list: fn(&Services, T) -> Result<Items, Status>,
) -> Result<http::Response<Body>, Infallible> {
    let asked = tower::service_fn(move |request: Request<T>| {
        let items = list(&cri.inner.services, request.into_inner());
        std::future::ready(items.map(Response::new))
    });
    let grpc = Grpc::new(ProstCodec::<Items, T>::default());
    let mut grpc = grpc.apply_max_message_size_config(Some(MAX_MESSAGE_BYTES), None);
    Ok(grpc.unary(asked, request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_the_message_that_they_are_sent_as() {
        let container = |id: &str| v1::Container {
            id: id.to_owned(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..Default::default()
        };
        let containers = vec![container("one"), container("two"), v1::Container::default()];
        let items = containers.iter().map(|one| Bytes::from(one.encode_to_vec())).collect();
        let read: v1::ListContainersResponse = Items { items }.as_message().unwrap();
        assert_eq!(read, v1::ListContainersResponse { containers });
        let sandboxes = vec![v1::PodSandbox { id: "one".to_owned(), ..Default::default() }];
        let items = sandboxes.iter().map(|one| Bytes::from(one.encode_to_vec())).collect();
        let read: v1::ListPodSandboxResponse = Items { items }.as_message().unwrap();
        assert_eq!(read, v1::ListPodSandboxResponse { items: sandboxes });
        assert!(Items { items: vec![] }.encode_to_vec().is_empty());
    }
}
