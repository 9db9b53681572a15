//! `isopod inspect`, `inspectp` and `inspecti`: everything the runtime tells about an object.

use std::collections::BTreeMap;

use cri_api::v1::{ContainerStatusRequest, ImageSpec, ImageStatusRequest, PodSandboxStatusRequest};
use prost::Message;
use serde_json::{Value, json};

use super::failure::{Doing, Failure, Outcome};
use super::find;
use super::node::Node;
use super::print::{self, Form};

/// Arguments of the verbs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "OBJECT")]
    objects: Vec<String>,
}

/// Prints the status of containers.
pub async fn containers(node: &Node, args: &Args, form: Form) -> Outcome {
    let mut all = Vec::new();
    for text in &args.objects {
        let container_id = find::container(node, text).await?.id;
        let request = ContainerStatusRequest { container_id, verbose: true };
        let answer = node.runtime().container_status(request).await;
        let answer = answer.doing(format!("inspect container {text}"))?.into_inner();
        all.push(merged(answer.status.as_ref(), "ContainerStatus", &answer.info)?);
    }
    printed(all, form)
}

/// Prints the status of pods.
pub async fn sandboxes(node: &Node, args: &Args, form: Form) -> Outcome {
    let mut all = Vec::new();
    for text in &args.objects {
        let pod_sandbox_id = find::sandbox(node, text).await?.id;
        let request = PodSandboxStatusRequest { pod_sandbox_id, verbose: true };
        let answer = node.runtime().pod_sandbox_status(request).await;
        let answer = answer.doing(format!("inspect pod {text}"))?.into_inner();
        all.push(merged(answer.status.as_ref(), "PodSandboxStatus", &answer.info)?);
    }
    printed(all, form)
}

/// Prints what is known of images.
pub async fn images(node: &Node, args: &Args, form: Form) -> Outcome {
    let mut all = Vec::new();
    for text in &args.objects {
        let image = find::image(node, text).await?;
        let spec = ImageSpec { image, ..Default::default() };
        let request = ImageStatusRequest { image: Some(spec), verbose: true };
        let answer = node.images().image_status(request).await;
        let answer = answer.doing(format!("inspect image {text}"))?.into_inner();
        all.push(merged(answer.image.as_ref(), "Image", &answer.info)?);
    }
    printed(all, form)
}

fn merged(
    status: Option<&impl Message>,
    name: &str,
    info: &BTreeMap<String, String>,
) -> Result<Value, Failure> {
    let status = match status {
        Some(status) => print::json_of(status, name)?,
        None => Value::Null,
    };
    Ok(json!({ "status": status, "info": print::opened(info) }))
}

/// One object is printed as itself, several as a list.
fn printed(mut all: Vec<Value>, form: Form) -> Outcome {
    let value = if all.len() == 1 { all.swap_remove(0) } else { Value::Array(all) };
    print::value(&value, form)?;
    Ok(0)
}
