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

/// The calls that are answered here.
const CONTAINERS: &str = "/runtime.v1.RuntimeService/ListContainers";
const SANDBOXES: &str = "/runtime.v1.RuntimeService/ListPodSandbox";

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
        Self { items: all.map(|one| one.listed.get_or(|| item(one))).collect() }
    }

    pub(crate) fn of_sandboxes<'a>(all: impl Iterator<Item = &'a SandboxStatus>) -> Self {
        let item = |one: &SandboxStatus| render::sandbox_item(one).encode_to_vec().into();
        Self { items: all.map(|one| one.listed.get_or(|| item(one))).collect() }
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
        let cri = self.cri.clone();
        match request.uri().path() {
            CONTAINERS => {
                Box::pin(answer(cri, request, |services, asked: v1::ListContainersRequest| {
                    container::items(services, asked.filter)
                }))
            }
            SANDBOXES => {
                Box::pin(answer(cri, request, |services, asked: v1::ListPodSandboxRequest| {
                    sandbox::items(services, asked.filter)
                }))
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
    let mut grpc = grpc.max_decoding_message_size(MAX_MESSAGE_BYTES);
    Ok(grpc.unary(asked, request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Message + Default>(items: Vec<Vec<u8>>) -> T {
        let items = Items { items: items.into_iter().map(Bytes::from).collect() };
        T::decode(&*items.encode_to_vec()).unwrap()
    }

    #[test]
    fn items_are_the_message_that_they_are_sent_as() {
        let container = |id: &str| v1::Container {
            id: id.to_owned(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..Default::default()
        };
        let containers = vec![container("one"), container("two"), v1::Container::default()];
        let got: v1::ListContainersResponse =
            read(containers.iter().map(Message::encode_to_vec).collect());
        assert_eq!(got, v1::ListContainersResponse { containers });
        let items = vec![v1::PodSandbox { id: "one".to_owned(), ..Default::default() }];
        let got: v1::ListPodSandboxResponse =
            read(items.iter().map(Message::encode_to_vec).collect());
        assert_eq!(got, v1::ListPodSandboxResponse { items });
        assert!(Items { items: vec![] }.encode_to_vec().is_empty());
    }

    #[test]
    fn the_calls_that_are_answered_here_are_calls_of_the_service() {
        let set = prost_types::FileDescriptorSet::decode(cri_api::FILE_DESCRIPTOR_SET).unwrap();
        let all = set.file.iter().flat_map(|file| {
            let package = file.package();
            file.service.iter().flat_map(move |service| {
                let name = service.name();
                service.method.iter().map(move |one| format!("/{package}.{name}/{}", one.name()))
            })
        });
        let all: Vec<String> = all.collect();
        for path in [CONTAINERS, SANDBOXES] {
            assert!(all.iter().any(|one| one == path), "{path} is none of {all:?}");
        }
    }
}
