//! Lists of sandboxes, in one answer and in parts.

use std::collections::BTreeSet;

use cri_api::v1::*;

use super::sandbox::NOBODY;
use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::{Context, Pod};
use crate::rpc::drained;

cases! { "sandbox-list":
    "has-all" Api Api ["ListPodSandbox", "ListPodSandboxRequest.filter"]
        "Without a filter, every sandbox is listed." => unfiltered(Way::List);
    "by-id" Api Api ["ListPodSandbox", "PodSandboxFilter.id"]
        "A filter by id gives the one sandbox." => by_id(Way::List);
    "by-unknown-id" Api Api ["ListPodSandbox", "PodSandboxFilter.id"]
        "An unknown id gives an empty list, not an error." => by_unknown_id(Way::List);
    "by-state" Api Api ["ListPodSandbox", "PodSandboxFilter.state", "PodSandboxStateValue.state"]
        "A filter by state gives those in it." => by_state(Way::List);
    "by-label" Api Api ["ListPodSandbox", "PodSandboxFilter.label_selector"]
        "A filter by label gives those that have it with this value." => by_label(Way::List);
    "by-labels" Api Api ["ListPodSandbox", "PodSandboxFilter.label_selector"]
        "Of several labels all must fit." => by_labels(Way::List);
    "by-all" Api Api ["ListPodSandbox", "PodSandboxFilter"]
        "Id, state and label together must all fit." => by_all(Way::List);
    "items-are-true" Api Api ["ListPodSandbox", "PodSandbox.id", "PodSandbox.metadata",
            "PodSandbox.labels", "PodSandbox.annotations", "PodSandbox.created_at", "PodSandbox.state"]
        "What a list says of a sandbox is what its status says." => items(Way::List);
    "removed-is-gone" Api Api ["ListPodSandbox", "RemovePodSandbox"]
        "A removed sandbox is not listed." => removed(Way::List);
    "stream-has-all" Api Api ["StreamPodSandboxes", "StreamPodSandboxesRequest.filter",
            "StreamPodSandboxesResponse.pod_sandboxes"]
        "Streamed without a filter, every sandbox comes, each once." => unfiltered(Way::Stream);
    "stream-by-id" Api Api ["StreamPodSandboxes", "PodSandboxFilter.id"]
        "Streamed by id, the one sandbox comes." => by_id(Way::Stream);
    "stream-by-unknown-id" Api Api ["StreamPodSandboxes", "PodSandboxFilter.id"]
        "Streamed by an unknown id, nothing comes, and that is no error." => by_unknown_id(Way::Stream);
    "stream-by-state" Api Api ["StreamPodSandboxes", "PodSandboxFilter.state"]
        "Streamed by state, those in it come." => by_state(Way::Stream);
    "stream-by-labels" Api Api ["StreamPodSandboxes", "PodSandboxFilter.label_selector"]
        "Streamed by labels, those come that have all." => by_labels(Way::Stream);
    "stream-items-are-true" Api Api ["StreamPodSandboxes", "PodSandbox"]
        "What a stream says of a sandbox is what its status says." => items(Way::Stream);
}

#[derive(Clone, Copy)]
enum Way {
    List,
    Stream,
}

async fn list(
    c: &Context,
    way: Way,
    filter: Option<PodSandboxFilter>,
) -> Result<Vec<PodSandbox>, Stop> {
    let all = match way {
        Way::List => c.rpc.list_pod_sandbox(ListPodSandboxRequest { filter }).await?.items,
        Way::Stream => {
            let stream = c.rpc.stream_pod_sandboxes(StreamPodSandboxesRequest { filter }).await?;
            let parts = drained(stream).await?;
            parts.into_iter().flat_map(|part| part.pod_sandboxes).collect()
        }
    };
    let ids: BTreeSet<&String> = all.iter().map(|pod| &pod.id).collect();
    ensure!(ids.len() == all.len(), "a sandbox is there twice");
    Ok(all)
}

async fn ids(c: &Context, way: Way, filter: PodSandboxFilter) -> Result<BTreeSet<String>, Stop> {
    Ok(list(c, way, Some(filter)).await?.into_iter().map(|pod| pod.id).collect())
}

fn set(pods: &[&Pod]) -> BTreeSet<String> {
    pods.iter().map(|pod| pod.id.clone()).collect()
}

async fn labelled(c: &Context, labels: &[(&str, &str)]) -> Result<Pod, Stop> {
    let mut config = c.pod_config();
    config.labels.extend(labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    c.pod_of(config).await
}

fn selector(c: &Context, labels: &[(&str, &str)]) -> PodSandboxFilter {
    let mut filter = c.own_pods();
    let more = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    filter.label_selector.extend(more);
    filter
}

async fn unfiltered(c: &Context, way: Way) -> Verdict {
    let pods = [c.pod().await?, c.pod().await?];
    let all = list(c, way, None).await?;
    for pod in &pods {
        ensure!(all.iter().any(|listed| listed.id == pod.id), "{} is missing", pod.id);
    }
    Ok(())
}

async fn by_id(c: &Context, way: Way) -> Verdict {
    let (one, _two) = (c.pod().await?, c.pod().await?);
    let filter = PodSandboxFilter { id: one.id.clone(), ..Default::default() };
    same!("the list", ids(c, way, filter).await?, set(&[&one]));
    Ok(())
}

async fn by_unknown_id(c: &Context, way: Way) -> Verdict {
    let _pod = c.pod().await?;
    let filter = PodSandboxFilter { id: NOBODY.to_owned(), ..Default::default() };
    same!("the list", ids(c, way, filter).await?, BTreeSet::new());
    Ok(())
}

async fn by_state(c: &Context, way: Way) -> Verdict {
    let (ready, stopped) = (c.pod().await?, c.pod().await?);
    c.stop_pod(&stopped.id).await?;
    for (state, pod) in
        [(PodSandboxState::SandboxReady, &ready), (PodSandboxState::SandboxNotready, &stopped)]
    {
        let mut filter = c.own_pods();
        filter.state = Some(PodSandboxStateValue { state: state.into() });
        same!(format!("the list of {state:?}"), ids(c, way, filter).await?, set(&[pod]));
    }
    Ok(())
}

async fn by_label(c: &Context, way: Way) -> Verdict {
    let web = labelled(c, &[("app", "web")]).await?;
    let _other = labelled(c, &[("app", "webs")]).await?;
    let _none = c.pod().await?;
    same!("the list", ids(c, way, selector(c, &[("app", "web")])).await?, set(&[&web]));
    same!("another value", ids(c, way, selector(c, &[("app", "")])).await?, BTreeSet::new());
    Ok(())
}

async fn by_labels(c: &Context, way: Way) -> Verdict {
    let both = labelled(c, &[("a", "1"), ("b", "2")]).await?;
    let _one = labelled(c, &[("a", "1"), ("b", "3")]).await?;
    let filter = selector(c, &[("a", "1"), ("b", "2")]);
    same!("the list", ids(c, way, filter).await?, set(&[&both]));
    Ok(())
}

async fn by_all(c: &Context, way: Way) -> Verdict {
    let pod = labelled(c, &[("a", "1")]).await?;
    let ready = PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() };
    let fits = PodSandboxFilter {
        id: pod.id.clone(),
        state: Some(ready),
        label_selector: [("a".to_owned(), "1".to_owned())].into(),
    };
    same!("the list", ids(c, way, fits.clone()).await?, set(&[&pod]));
    let mut other = fits.clone();
    other.label_selector.insert("a".to_owned(), "2".to_owned());
    same!("with another label", ids(c, way, other).await?, BTreeSet::new());
    let mut other = fits;
    other.state = Some(PodSandboxStateValue { state: PodSandboxState::SandboxNotready.into() });
    same!("with another state", ids(c, way, other).await?, BTreeSet::new());
    Ok(())
}

async fn items(c: &Context, way: Way) -> Verdict {
    let mut config = c.pod_config();
    config.annotations.insert("note".to_owned(), "text".to_owned());
    let pod = c.pod_of(config).await?;
    let status = c.pod_status(&pod.id).await?;
    let filter = PodSandboxFilter { id: pod.id, ..Default::default() };
    let wanted = PodSandbox {
        id: status.id,
        metadata: status.metadata,
        state: status.state,
        created_at: status.created_at,
        labels: status.labels,
        annotations: status.annotations,
        runtime_handler: status.runtime_handler,
    };
    same!("the list", list(c, way, Some(filter)).await?, [wanted]);
    Ok(())
}

async fn removed(c: &Context, way: Way) -> Verdict {
    let (gone, stays) = (c.pod().await?, c.pod().await?);
    c.stop_pod(&gone.id).await?;
    c.remove_pod(&gone.id).await?;
    same!("the list", ids(c, way, c.own_pods()).await?, set(&[&stays]));
    Ok(())
}
