//! Lists of containers, in one answer and in parts.

use std::collections::BTreeSet;

use cri_api::v1::*;

use super::sandbox::NOBODY;
use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::{Context, Pod};
use crate::rpc::drained;

cases! { "container-list":
    "has-all" Api Api ["ListContainers", "ListContainersRequest.filter",
            "ListContainersResponse.containers"]
        "Without a filter, every container is listed, those that have ended too." =>
        unfiltered(Way::List);
    "by-id" Api Api ["ListContainers", "ContainerFilter.id"]
        "A filter by id gives the one container." => by_id(Way::List);
    "by-unknown-id" Api Api ["ListContainers", "ContainerFilter.id"]
        "An unknown id gives an empty list, not an error." => by_unknown_id(Way::List);
    "by-pod" Api Api ["ListContainers", "ContainerFilter.pod_sandbox_id"]
        "A filter by sandbox gives its containers." => by_pod(Way::List);
    "by-unknown-pod" Api Api ["ListContainers", "ContainerFilter.pod_sandbox_id"]
        "An unknown sandbox gives an empty list." => by_unknown_pod(Way::List);
    "by-state-created" Api Api ["ListContainers", "ContainerFilter.state",
            "ContainerStateValue.state"]
        "A filter by CREATED gives those that never ran." => by_state(Way::List, 0);
    "by-state-running" Api Api ["ListContainers", "ContainerFilter.state"]
        "A filter by RUNNING gives those that run." => by_state(Way::List, 1);
    "by-state-exited" Api Api ["ListContainers", "ContainerFilter.state"]
        "A filter by EXITED gives those that have ended." => by_state(Way::List, 2);
    "by-label" Api Api ["ListContainers", "ContainerFilter.label_selector"]
        "A filter by labels gives those that have all with these values." => by_label(Way::List);
    "by-all" Api Api ["ListContainers", "ContainerFilter"]
        "Sandbox, state and label together must all fit." => by_all(Way::List);
    "items-are-true" Program Api ["ListContainers", "Container.id", "Container.pod_sandbox_id",
            "Container.metadata", "Container.image_id", "Container.image_ref", "Container.state",
            "Container.created_at", "Container.labels", "Container.annotations"]
        "What a list says of a container is what its status says." => items(Way::List);
    "removed-is-gone" Api Api ["ListContainers", "RemoveContainer"]
        "A removed container is not listed." => removed(Way::List);
    "stream-has-all" Api Api ["StreamContainers", "StreamContainersRequest.filter",
            "StreamContainersResponse.containers"]
        "Streamed without a filter, every container comes, each once." => unfiltered(Way::Stream);
    "stream-by-id" Api Api ["StreamContainers", "ContainerFilter.id"]
        "Streamed by id, the one container comes." => by_id(Way::Stream);
    "stream-by-pod" Api Api ["StreamContainers", "ContainerFilter.pod_sandbox_id"]
        "Streamed by sandbox, its containers come." => by_pod(Way::Stream);
    "stream-by-unknown-pod" Api Api ["StreamContainers", "ContainerFilter.pod_sandbox_id"]
        "Streamed by an unknown sandbox, nothing comes, and that is no error." =>
        by_unknown_pod(Way::Stream);
    "stream-by-state" Api Api ["StreamContainers", "ContainerFilter.state"]
        "Streamed by state, those in it come." => by_state(Way::Stream, 1);
    "stream-by-label" Api Api ["StreamContainers", "ContainerFilter.label_selector"]
        "Streamed by labels, those come that have all." => by_label(Way::Stream);
    "stream-items-are-true" Program Api ["StreamContainers", "Container"]
        "What a stream says of a container is what its status says." => items(Way::Stream);
}

#[derive(Clone, Copy)]
enum Way {
    List,
    Stream,
}

async fn list(
    c: &Context,
    way: Way,
    filter: Option<ContainerFilter>,
) -> Result<Vec<Container>, Stop> {
    let all = match way {
        Way::List => c.rpc.list_containers(ListContainersRequest { filter }).await?.containers,
        Way::Stream => {
            let stream = c.rpc.stream_containers(StreamContainersRequest { filter }).await?;
            drained(stream).await?.into_iter().flat_map(|part| part.containers).collect()
        }
    };
    let ids: BTreeSet<&String> = all.iter().map(|container| &container.id).collect();
    ensure!(ids.len() == all.len(), "a container is there twice");
    Ok(all)
}

async fn ids(c: &Context, way: Way, filter: ContainerFilter) -> Result<BTreeSet<String>, Stop> {
    Ok(list(c, way, Some(filter)).await?.into_iter().map(|container| container.id).collect())
}

fn set(ids: &[&String]) -> BTreeSet<String> {
    ids.iter().map(|&id| id.clone()).collect()
}

fn of(pod: &Pod) -> ContainerFilter {
    ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() }
}

/// A pod with one container in each state.
async fn three(c: &Context) -> Result<(Pod, [String; 3]), Stop> {
    let pod = c.pod().await?;
    let created = c.create(&pod, &c.waiter()).await?;
    let running = c.launch(&pod, &c.waiter()).await?;
    let ended = c.launch(&pod, &c.waiter()).await?;
    c.stop(&ended, 0).await?;
    Ok((pod, [created, running, ended]))
}

async fn unfiltered(c: &Context, way: Way) -> Verdict {
    let (_pod, wanted) = three(c).await?;
    let all = list(c, way, None).await?;
    for id in &wanted {
        ensure!(all.iter().any(|listed| listed.id == *id), "{id} is missing");
    }
    Ok(())
}

async fn by_id(c: &Context, way: Way) -> Verdict {
    let (_pod, [_, running, _]) = three(c).await?;
    let filter = ContainerFilter { id: running.clone(), ..Default::default() };
    same!("the list", ids(c, way, filter).await?, set(&[&running]));
    Ok(())
}

async fn by_unknown_id(c: &Context, way: Way) -> Verdict {
    let filter = ContainerFilter { id: NOBODY.to_owned(), ..Default::default() };
    same!("the list", ids(c, way, filter).await?, BTreeSet::new());
    Ok(())
}

async fn by_pod(c: &Context, way: Way) -> Verdict {
    let (one, two) = (c.pod().await?, c.pod().await?);
    let ours = [c.create(&one, &c.waiter()).await?, c.create(&one, &c.waiter()).await?];
    let _other = c.create(&two, &c.waiter()).await?;
    same!("the list", ids(c, way, of(&one)).await?, set(&[&ours[0], &ours[1]]));
    Ok(())
}

async fn by_unknown_pod(c: &Context, way: Way) -> Verdict {
    let filter = ContainerFilter { pod_sandbox_id: NOBODY.to_owned(), ..Default::default() };
    same!("the list", ids(c, way, filter).await?, BTreeSet::new());
    Ok(())
}

async fn by_state(c: &Context, way: Way, state: usize) -> Verdict {
    let (pod, all) = three(c).await?;
    let states = [
        ContainerState::ContainerCreated,
        ContainerState::ContainerRunning,
        ContainerState::ContainerExited,
    ];
    let mut filter = of(&pod);
    filter.state = Some(ContainerStateValue { state: states[state].into() });
    same!("the list", ids(c, way, filter).await?, set(&[&all[state]]));
    Ok(())
}

async fn labelled(c: &Context, pod: &Pod, labels: &[(&str, &str)]) -> Result<String, Stop> {
    let mut config = c.waiter();
    config.labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Ok(c.create(pod, &config).await?)
}

async fn by_label(c: &Context, way: Way) -> Verdict {
    let pod = c.pod().await?;
    let both = labelled(c, &pod, &[("a", "1"), ("b", "2")]).await?;
    let _one = labelled(c, &pod, &[("a", "1")]).await?;
    let _other = labelled(c, &pod, &[("a", "1"), ("b", "")]).await?;
    let mut filter = of(&pod);
    filter.label_selector = [("a", "1"), ("b", "2")].map(|(k, v)| (k.into(), v.into())).into();
    same!("the list", ids(c, way, filter).await?, set(&[&both]));
    Ok(())
}

async fn by_all(c: &Context, way: Way) -> Verdict {
    let pod = c.pod().await?;
    let fits = labelled(c, &pod, &[("a", "1")]).await?;
    let _runs = c.launch(&pod, &c.waiter()).await?;
    let mut filter = of(&pod);
    filter.state = Some(ContainerStateValue { state: ContainerState::ContainerCreated.into() });
    filter.label_selector = [("a".to_owned(), "1".to_owned())].into();
    same!("the list", ids(c, way, filter.clone()).await?, set(&[&fits]));
    filter.state = Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() });
    same!("with another state", ids(c, way, filter).await?, BTreeSet::new());
    Ok(())
}

async fn items(c: &Context, way: Way) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("true");
    config.labels = [("a".to_owned(), "1".to_owned())].into();
    config.annotations = [("b".to_owned(), "2".to_owned())].into();
    let ran = c.run(&pod, &config).await?;
    let filter = ContainerFilter { id: ran.id.clone(), ..Default::default() };
    let listed = list(c, way, Some(filter)).await?;
    let [found] = &listed[..] else { return Err(Stop::failed(format!("there are {listed:?}"))) };
    let status = ran.status;
    same!("the id", found.id, status.id);
    same!("the sandbox", found.pod_sandbox_id, pod.id);
    same!("the metadata", found.metadata, status.metadata);
    same!("the state", found.state, status.state);
    same!("the time", found.created_at, status.created_at);
    same!("labels", found.labels, status.labels);
    same!("annotations", found.annotations, status.annotations);
    same!("the image by digest", found.image_ref, status.image_ref);
    same!("the image's id", found.image_id, status.image_id);
    Ok(())
}

async fn removed(c: &Context, way: Way) -> Verdict {
    let (pod, [created, running, ended]) = three(c).await?;
    c.remove(&ended).await?;
    same!("the list", ids(c, way, of(&pod)).await?, set(&[&created, &running]));
    Ok(())
}
