//! Explain: what is known of one sandbox or container.

use admin_api::v1;
use model::{ContainerId, SandboxId};
use tonic::{Response, Status};

use crate::runtime::container::info;
use crate::{Services, code, render};

enum Found {
    Sandbox(SandboxId),
    Container(ContainerId),
}

pub(super) async fn explain(
    services: &Services,
    object: &str,
) -> Result<Response<v1::ExplainReply>, Status> {
    let (id, kind, json) = match find(services, object)? {
        Found::Sandbox(id) => {
            let asked = services.pods.sandbox_status(&id).await;
            let (status, _) = asked.map_err(|error| code::status(&error))?;
            (id.to_string(), "sandbox", render::sandbox_info(&status))
        }
        Found::Container(id) => {
            let asked = services.pods.container_status(&id).await;
            let status = asked.map_err(|error| code::status(&error))?;
            (id.to_string(), "container", info(services, &status).await)
        }
    };
    // Operations name their objects for people: by the id, or by its beginning.
    let short = &id[..12];
    let running = services.operations.list();
    let about = running.iter().filter(|operation| operation.object.contains(short));
    let operations = about.map(super::operation).collect();
    Ok(Response::new(v1::ExplainReply { id, kind: kind.to_owned(), json, operations }))
}

/// The one object whose id begins like this.
fn find(services: &Services, object: &str) -> Result<Found, Status> {
    if object.is_empty() {
        return Err(Status::invalid_argument("object is missing: it is required"));
    }
    let sandboxes = services.pods.find_sandboxes(object).into_iter().map(Found::Sandbox);
    let containers = services.pods.find_containers(object).into_iter().map(Found::Container);
    let mut found = sandboxes.chain(containers);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => {
            Err(Status::not_found(format!("nothing has an id that begins with {object:?}")))
        }
        (Some(_), Some(_)) => {
            Err(Status::invalid_argument(format!("{object:?} is the beginning of several ids")))
        }
    }
}
