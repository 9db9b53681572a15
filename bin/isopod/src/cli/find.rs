//! From what a person types to the one object that is meant.
//!
//! Always: an exact id wins, then a name, then the beginning of an id; what could be several is
//! refused with the list of them.

use std::collections::BTreeMap;

use cri_api::v1::{
    Container, ContainerState, ImageSpec, ImageStatusRequest, ListContainersRequest,
    ListImagesRequest, ListPodSandboxRequest, PodSandbox,
};

use super::failure::{Doing, Failure};
use super::node::Node;
use super::text::short;

/// Labels by which the kubelet, and `isopod run`, say whose a container is.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// The pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// Something that has an id and names.
pub trait Named {
    /// Its id.
    fn id(&self) -> &str;
    /// The names it answers to; the more telling first.
    fn names(&self) -> Vec<String>;
    /// Of two with one name, the one that is meant is the one with more of this; two that are equal
    /// in it are two meanings.
    fn rank(&self) -> (u8, u32);
}

impl Named for PodSandbox {
    fn id(&self) -> &str {
        &self.id
    }

    fn names(&self) -> Vec<String> {
        let Some(metadata) = &self.metadata else { return Vec::new() };
        vec![format!("{}/{}", metadata.namespace, metadata.name), metadata.name.clone()]
    }

    fn rank(&self) -> (u8, u32) {
        let ready = u8::from(self.state == 0);
        (ready, self.metadata.as_ref().map_or(0, |m| m.attempt))
    }
}

/// The pods that containers can be in, by id.
#[derive(Debug, Default)]
pub struct PodNames(BTreeMap<String, (String, String)>);

impl PodNames {
    /// All that there are.
    pub async fn list(node: &Node) -> Result<Self, Failure> {
        let request = ListPodSandboxRequest { filter: None };
        let all = node.runtime().list_pod_sandbox(request).await.doing("list pods")?;
        Ok(Self::of(all.into_inner().items))
    }

    fn of(all: Vec<PodSandbox>) -> Self {
        let named = all.into_iter().filter_map(|pod| {
            let metadata = pod.metadata?;
            Some((pod.id, (metadata.namespace, metadata.name)))
        });
        Self(named.collect())
    }

    /// Namespace and name of the pod with this id; where it is not known, what the labels of one of its containers
    /// say. The namespace may be empty.
    pub fn of_container(
        &self,
        id: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<(String, String)> {
        let label = |key: &str| labels.get(key).cloned();
        let said = || Some((label(POD_NAMESPACE).unwrap_or_default(), label(POD_NAME)?));
        self.0.get(id).cloned().or_else(said)
    }
}

/// A container and the pod that it is in.
#[derive(Debug)]
struct Placed {
    container: Container,
    /// Namespace and name.
    pod: Option<(String, String)>,
}

impl Named for Placed {
    fn id(&self) -> &str {
        &self.container.id
    }

    fn names(&self) -> Vec<String> {
        let name = container_name(&self.container).to_owned();
        let mut names = Vec::new();
        if let Some((namespace, pod)) = &self.pod {
            if !namespace.is_empty() {
                names.push(format!("{namespace}/{pod}/{name}"));
            }
            names.push(format!("{pod}/{name}"));
            // A pod with one container is called by the pod's name as often as by the container's.
            names.push(pod.clone());
        }
        names.push(name);
        names
    }

    fn rank(&self) -> (u8, u32) {
        // Running first, then created, then exited.
        let state = match self.container.state() {
            ContainerState::ContainerRunning => 2,
            ContainerState::ContainerCreated => 1,
            ContainerState::ContainerExited | ContainerState::ContainerUnknown => 0,
        };
        (state, self.container.metadata.as_ref().map_or(0, |m| m.attempt))
    }
}

/// A container's name in its pod.
pub fn container_name(container: &Container) -> &str {
    container.metadata.as_ref().map_or("", |metadata| metadata.name.as_str())
}

/// Why nothing was chosen.
#[derive(Debug, PartialEq, Eq)]
enum NoChoice {
    Nothing,
    Several(Vec<String>),
}

/// The one of `items` that `text` means.
fn choose<T: Named>(items: Vec<T>, text: &str) -> Result<T, NoChoice> {
    let (mut named, mut begun) = (Vec::new(), Vec::new());
    for item in items {
        if item.id() == text {
            return Ok(item);
        }
        if item.names().iter().any(|name| name == text) {
            named.push(item);
        } else if !text.is_empty() && item.id().starts_with(text) {
            begun.push(item);
        }
    }
    if !named.is_empty() {
        let best = named.iter().map(Named::rank).max();
        named.retain(|item| Some(item.rank()) == best);
        return only(named);
    }
    only(begun)
}

fn only<T: Named>(mut items: Vec<T>) -> Result<T, NoChoice> {
    match items.len() {
        0 => Err(NoChoice::Nothing),
        1 => Ok(items.swap_remove(0)),
        _ => Err(NoChoice::Several(items.iter().map(shown).collect())),
    }
}

fn shown<T: Named>(item: &T) -> String {
    match item.names().first() {
        Some(name) => format!("{} ({name})", short(item.id())),
        None => short(item.id()).to_owned(),
    }
}

/// The sandbox with this id, beginning of an id, name, or namespace/name.
pub async fn sandbox(node: &Node, text: &str) -> Result<PodSandbox, Failure> {
    let request = ListPodSandboxRequest { filter: None };
    let all = node.runtime().list_pod_sandbox(request).await.doing("list pods")?.into_inner().items;
    choose(all, text).map_err(|why| refused("pod", "isopod pods", text, why))
}

/// The container with this id, beginning of an id, name, pod/name, namespace/pod/name, or name of its pod.
pub async fn container(node: &Node, text: &str) -> Result<Container, Failure> {
    let request = ListContainersRequest { filter: None };
    let all = node.runtime().list_containers(request).await.doing("list containers")?;
    let all = placed(all.into_inner().containers, &PodNames::list(node).await?);
    choose(all, text)
        .map(|placed| placed.container)
        .map_err(|why| refused("container", "isopod ps -a", text, why))
}

fn placed(containers: Vec<Container>, pods: &PodNames) -> Vec<Placed> {
    let place = |container: Container| {
        let pod = pods.of_container(&container.pod_sandbox_id, &container.labels);
        Placed { container, pod }
    };
    containers.into_iter().map(place).collect()
}

/// The image's full id: for a name, an id, or the beginning of one.
pub async fn image(node: &Node, text: &str) -> Result<String, Failure> {
    let spec = ImageSpec { image: text.to_owned(), ..Default::default() };
    let request = ImageStatusRequest { image: Some(spec), verbose: false };
    let answer = node.images().image_status(request).await;
    // A beginning of an id may be no reference at all; the list decides then.
    if let Ok(answer) = &answer
        && let Some(image) = &answer.get_ref().image
    {
        return Ok(image.id.clone());
    }
    let request = ListImagesRequest { filter: None };
    let all = node.images().list_images(request).await.doing("list images")?.into_inner().images;
    let begins = |id: &str| !text.is_empty() && (id.starts_with(text) || hex(id).starts_with(text));
    let mut found: Vec<String> =
        all.into_iter().map(|image| image.id).filter(|id| begins(id)).collect();
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => Err(refused("image", "isopod images", text, NoChoice::Nothing)),
        _ => {
            let found = found.iter().map(|id| short(hex(id)).to_owned()).collect();
            Err(refused("image", "isopod images", text, NoChoice::Several(found)))
        }
    }
}

/// An image id without the algorithm.
pub fn hex(id: &str) -> &str {
    id.split_once(':').map_or(id, |(_, hex)| hex)
}

fn refused(kind: &str, list: &str, text: &str, why: NoChoice) -> Failure {
    match why {
        NoChoice::Nothing => Failure::new(format!("find {kind} {text:?}"), "there is none")
            .advise(format!("`{list}` shows what there is")),
        NoChoice::Several(all) => {
            Failure::new(format!("tell which {kind} {text:?} is"), "it could be any of these")
                .advise(all.join("\n  "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(&'static str, &'static str, u8);

    impl Named for Thing {
        fn id(&self) -> &str {
            self.0
        }

        fn names(&self) -> Vec<String> {
            vec![self.1.to_owned()]
        }

        fn rank(&self) -> (u8, u32) {
            (self.2, 0)
        }
    }

    fn chosen(text: &str) -> Result<&'static str, NoChoice> {
        let things = vec![
            Thing("abcd", "web", 1),
            Thing("abce", "db", 1),
            Thing("ffff", "abcd", 1),
            Thing("1111", "old", 0),
            Thing("2222", "old", 1),
            Thing("3333", "twin", 1),
            Thing("4444", "twin", 1),
            Thing("dbdb", "x", 1),
        ];
        choose(things, text).map(|thing| thing.0)
    }

    #[test]
    fn a_container_is_called_by_its_pods_metadata_with_labels_or_without() {
        use cri_api::v1::{ContainerMetadata, PodSandboxMetadata};
        let pod = |id: &str, name: &str| PodSandbox {
            id: id.to_owned(),
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                namespace: "d".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let container = |id: &str, pod: &str| Container {
            id: id.to_owned(),
            pod_sandbox_id: pod.to_owned(),
            metadata: Some(ContainerMetadata { name: "c1".to_owned(), attempt: 0 }),
            ..Default::default()
        };
        let of_label = Container {
            labels: [(POD_NAME.to_owned(), "gone".to_owned())].into(),
            ..container("cccc", "p9")
        };
        let pods = PodNames::of(vec![pod("p1", "b1"), pod("p2", "b2")]);
        let all = || {
            let all = vec![container("aaaa", "p1"), container("bbbb", "p2"), of_label.clone()];
            placed(all, &pods)
        };
        for (text, id) in
            [("b1/c1", "aaaa"), ("d/b2/c1", "bbbb"), ("b2", "bbbb"), ("gone/c1", "cccc")]
        {
            let chosen = choose(all(), text).map(|one| one.container.id);
            assert_eq!(chosen.as_deref(), Ok(id), "{text}");
        }
        let shown = ["aaaa (d/b1/c1)", "bbbb (d/b2/c1)", "cccc (gone/c1)"].map(str::to_owned);
        let several = choose(all(), "c1").map(|one| one.container.id);
        assert_eq!(several, Err(NoChoice::Several(shown.to_vec())));
    }

    #[test]
    fn an_id_wins_over_a_name_and_a_name_over_a_beginning() {
        assert_eq!(chosen("abcd"), Ok("abcd"));
        assert_eq!(chosen("db"), Ok("abce"));
        assert_eq!(chosen("dbd"), Ok("dbdb"));
    }

    #[test]
    fn of_two_with_one_name_the_living_one_is_meant() {
        assert_eq!(chosen("old"), Ok("2222"));
    }

    #[test]
    fn what_could_be_several_or_is_none_is_refused() {
        let twins = vec!["3333 (twin)".to_owned(), "4444 (twin)".to_owned()];
        assert_eq!(chosen("twin"), Err(NoChoice::Several(twins)));
        assert!(matches!(chosen("abc"), Err(NoChoice::Several(two)) if two.len() == 2));
        assert_eq!(chosen("zzz"), Err(NoChoice::Nothing));
        assert_eq!(chosen(""), Err(NoChoice::Nothing));
    }
}
