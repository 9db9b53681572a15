//! `isopod ps`.

use cri_api::v1::{
    Container, ContainerFilter, ContainerState, ContainerStatusRequest, ListContainersRequest,
    ListContainersResponse,
};

use super::failure::{Doing, Failure, Outcome};
use super::find::{self, PodNames, container_name};
use super::node::Node;
use super::print::{self, Form, Rows};
use super::text::{age, now, parse_label, short};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show containers that have ended too
    #[arg(long, short)]
    all: bool,
    /// Print ids only
    #[arg(long, short)]
    quiet: bool,
    /// Only containers of this pod
    #[arg(long, short, value_name = "POD")]
    pod: Option<String>,
    /// Only containers with this label; may be repeated
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
    /// Print ids in full
    #[arg(long)]
    no_trunc: bool,
}

/// Lists containers, the newest first.
pub async fn run(node: &Node, args: &Args, form: Form) -> Outcome {
    let pod_sandbox_id = match &args.pod {
        Some(text) => find::sandbox(node, text).await?.id,
        None => String::new(),
    };
    let label_selector = args.label.iter().cloned().collect();
    let filter = ContainerFilter { pod_sandbox_id, label_selector, ..Default::default() };
    let request = ListContainersRequest { filter: Some(filter) };
    let answer = node.runtime().list_containers(request).await.doing("list containers")?;
    let mut containers = answer.into_inner().containers;
    containers.retain(|container| args.all || lives(container.state()));
    containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
    match form {
        Form::Table if args.quiet => {
            containers.iter().try_for_each(|container| print::line(&container.id))?;
        }
        Form::Table => table(node, &containers, args).await?,
        Form::Json | Form::Yaml => {
            let answer = ListContainersResponse { containers };
            print::value(&print::json_of(&answer, "ListContainersResponse")?, form)?;
        }
    }
    Ok(0)
}

fn lives(state: ContainerState) -> bool {
    match state {
        ContainerState::ContainerCreated | ContainerState::ContainerRunning => true,
        ContainerState::ContainerExited | ContainerState::ContainerUnknown => false,
    }
}

async fn table(node: &Node, containers: &[Container], args: &Args) -> Result<(), Failure> {
    let columns = ["CONTAINER ID", "NAME", "POD", "IMAGE", "STATE", "AGE"];
    let mut rows = Rows::new(&columns);
    let now = now();
    let pods = PodNames::list(node).await?;
    for container in containers {
        let id = if args.no_trunc { &container.id } else { short(&container.id) };
        let pod = pods.of_container(&container.pod_sandbox_id, &container.labels);
        let pod = pod.map_or_else(|| short(&container.pod_sandbox_id).to_owned(), |(_, name)| name);
        rows.add([
            id.to_owned(),
            container_name(container).to_owned(),
            pod,
            image(container, args),
            state(node, container).await,
            age(container.created_at, now),
        ]);
    }
    rows.print()
}

/// The image as it was asked for; of a digest or an id the beginning.
fn image(container: &Container, args: &Args) -> String {
    let spec = container.image.as_ref();
    let asked = spec.map_or("", |spec| match spec.user_specified_image.as_str() {
        "" => &spec.image,
        user => user,
    });
    let asked = if asked.is_empty() { &container.image_ref } else { asked };
    if args.no_trunc {
        return asked.to_owned();
    }
    match asked.split_once("sha256:") {
        Some(("", hex)) => short(hex).to_owned(),
        Some((name, hex)) => format!("{name}sha256:{}", short(hex)),
        None => asked.to_owned(),
    }
}

/// The state; of one that has ended with its exit code, for which it is asked.
async fn state(node: &Node, container: &Container) -> String {
    match container.state() {
        ContainerState::ContainerCreated => "Created".to_owned(),
        ContainerState::ContainerRunning => "Running".to_owned(),
        ContainerState::ContainerUnknown => "Unknown".to_owned(),
        ContainerState::ContainerExited => {
            let request =
                ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
            let answer = node.runtime().container_status(request).await.ok();
            match answer.and_then(|answer| answer.into_inner().status) {
                Some(status) => format!("Exited ({})", status.exit_code),
                None => "Exited".to_owned(),
            }
        }
    }
}
