//! What a kubelet does whose answer was lost: it asks again.

use std::collections::BTreeSet;

use cri_api::v1::*;
use tonic::Status;

use crate::case::{Verdict, cases, ensure, same};
use crate::context::Context;

cases! { "retry":
    "run" Api Kubelet ["RunPodSandbox", "PodSandboxMetadata"]
        "A repeated RunPodSandbox gives the sandbox that is there." => run();
    "run-at-once" Api Kubelet ["RunPodSandbox", "PodSandboxMetadata"]
        "The same RunPodSandbox twice at once makes one sandbox." => run_at_once();
    "run-given-up" Api Kubelet ["RunPodSandbox"]
        "A RunPodSandbox whose caller gave up can be repeated." => run_given_up();
    "create" Api Kubelet ["CreateContainer", "ContainerMetadata"]
        "A repeated CreateContainer gives the container that is there." => create();
    "create-at-once" Api Kubelet ["CreateContainer", "ContainerMetadata"]
        "The same CreateContainer twice at once makes one container." => create_at_once();
    "create-given-up" Api Kubelet ["CreateContainer"]
        "A CreateContainer whose caller gave up can be repeated." => create_given_up();
    "pull" Api Kubelet ["PullImage"]
        "A repeated PullImage gives the same image." => pull();
    "pull-at-once" Api Kubelet ["PullImage"]
        "The same PullImage five times at once gives one image." => pull_at_once();
    "stop-and-remove-at-once" Api Kubelet ["StopPodSandbox", "RemovePodSandbox"]
        "Stop and remove of one sandbox at once both succeed." => stop_and_remove();
    "remove-at-once" Api Kubelet ["RemovePodSandbox"]
        "Five removals of one sandbox at once all succeed." => remove_at_once();
    "start-at-once" Api Kubelet ["StartContainer"]
        "Two starts of one container at once run it once." => start_at_once();
}

async fn run(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    same!("the second id", c.run_pod(&pod.config).await?, pod.id);
    Ok(())
}

async fn run_at_once(c: &Context) -> Verdict {
    let config = c.pod_config();
    let (one, two) = tokio::join!(c.run_pod(&config), c.run_pod(&config));
    same!("the second id", two?, one?);
    same!("the number of sandboxes", c.pods(c.own_pods()).await?.len(), 1);
    Ok(())
}

async fn run_given_up(c: &Context) -> Verdict {
    let config = c.pod_config();
    let hasty = tokio::time::timeout(std::time::Duration::from_millis(1), c.run_pod(&config)).await;
    drop(hasty);
    let id = c.run_pod(&config).await?;
    same!("the state", c.pod_status(&id).await?.state(), PodSandboxState::SandboxReady);
    same!("the number of sandboxes", c.pods(c.own_pods()).await?.len(), 1);
    Ok(())
}

async fn create(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let config = c.waiter();
    let first = c.create(&pod, &config).await?;
    same!("the second id", c.create(&pod, &config).await?, first);
    Ok(())
}

async fn count(c: &Context, pod: &str) -> Result<usize, Status> {
    let filter = ContainerFilter { pod_sandbox_id: pod.to_owned(), ..Default::default() };
    Ok(c.containers(filter).await?.len())
}

async fn create_at_once(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let config = c.waiter();
    let (one, two) = tokio::join!(c.create(&pod, &config), c.create(&pod, &config));
    same!("the second id", two?, one?);
    same!("the number of containers", count(c, &pod.id).await?, 1);
    Ok(())
}

async fn create_given_up(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let config = c.waiter();
    let soon = std::time::Duration::from_millis(1);
    drop(tokio::time::timeout(soon, c.create(&pod, &config)).await);
    let id = c.create(&pod, &config).await?;
    same!("the state", c.status(&id).await?.state(), ContainerState::ContainerCreated);
    same!("the number of containers", count(c, &pod.id).await?, 1);
    Ok(())
}

async fn pull(c: &Context) -> Verdict {
    let image = c.shared.busybox.clone().unique(&c.mark);
    let reference = format!("{}:1", c.offer(&image, "pull", "1").await?);
    let first = c.pull(&reference).await?;
    same!("the second answer", c.pull(&reference).await?, first);
    Ok(())
}

async fn pull_at_once(c: &Context) -> Verdict {
    let image = c.shared.busybox.clone().unique(&c.mark);
    let reference = format!("{}:1", c.offer(&image, "pull", "1").await?);
    let answers = futures_util::future::join_all((0..5).map(|_| c.pull(&reference))).await;
    let answers = answers.into_iter().collect::<Result<BTreeSet<_>, _>>()?;
    same!("the number of answers", answers.len(), 1);
    Ok(())
}

async fn stop_and_remove(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    c.launch(&pod, &c.waiter()).await?;
    let (stopped, removed) = tokio::join!(c.stop_pod(&pod.id), c.remove_pod(&pod.id));
    stopped?;
    removed?;
    ensure!(c.pods(c.own_pods()).await?.is_empty(), "it is there still");
    Ok(())
}

async fn remove_at_once(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    for answer in futures_util::future::join_all((0..5).map(|_| c.remove_pod(&pod.id))).await {
        answer?;
    }
    Ok(())
}

async fn start_at_once(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    let (one, two) = tokio::join!(c.start(&id), c.start(&id));
    ensure!(one.is_ok() || two.is_ok(), "neither starts it: {one:?}, {two:?}");
    same!("the state", c.status(&id).await?.state(), ContainerState::ContainerRunning);
    Ok(())
}
