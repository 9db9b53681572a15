//! A restart of the runtime: what ran goes on, what ended has its true end.

use cri_api::v1::*;
use cri_log::Stream;

use crate::case::{Stop, Verdict, cases, ensure, same, until};
use crate::context::{Context, Pod};

cases! { "restart":
    "container-goes-on" Linux Kubelet ["ContainerStatus"] needs [Restart]
        "A container that runs does so after a restart, as the same process." => goes_on();
    "exit-while-away" Linux Kubelet ["ContainerStatus", "ContainerStatus.exit_code"] needs [Restart]
        "A container that ended during a restart has its true exit code." => exit_while_away();
    "records-stay" Linux Kubelet ["ListContainers", "ListPodSandbox"] needs [Restart]
        "Metadata, labels and annotations are the same after a restart." => records();
    "exec-works" Linux Kubelet ["ExecSync"] needs [Restart]
        "A command can be run in a container that was there before." => exec();
    "stop-works" Linux Kubelet ["StopContainer"] needs [Restart]
        "A container that was there before can be stopped, with its own exit code." => stop();
    "remove-works" Linux Kubelet ["RemovePodSandbox"] needs [Restart]
        "A sandbox that was there before can be removed." => remove();
    "log-goes-on" Linux Kubelet ["ContainerStatus.log_path"] needs [Restart]
        "No line is lost or repeated in the log of a container that goes on." => log();
    "images-stay" Linux Kubelet ["ImageStatus"] needs [Restart]
        "Images are there after a restart, with their names." => images();
    "network-stays" Linux Kubelet ["PodSandboxStatus"] needs [Restart, PodNetwork]
        "A pod has the same address after a restart." => network();
    "run-again-joins" Linux Kubelet ["RunPodSandbox"] needs [Restart]
        "A repeated RunPodSandbox after a restart gives the sandbox that is there." => joins();
}

async fn restart(c: &Context) -> Result<(), Stop> {
    let Some(restart) = &c.shared.options.restart else {
        return Err(Stop::Skipped("the suite was not told how".to_owned()));
    };
    (restart.0)().await.map_err(Stop::failed)?;
    until!("the runtime answers again", {
        let request = VersionRequest { version: "v1".to_owned() };
        c.rpc.version(request).await.ok()
    });
    Ok(())
}

async fn waiter(c: &Context, code: i32) -> Result<(Pod, String), Stop> {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.script(&crate::shape::waits_and_ends_with(code))).await?;
    until!("it is ready", c.log(&id).await?.text().contains("ready").then_some(()));
    Ok((pod, id))
}

async fn goes_on(c: &Context) -> Verdict {
    let (_pod, id) = waiter(c, 0).await?;
    let before = c.status(&id).await?;
    restart(c).await?;
    let after = c.status(&id).await?;
    same!("state and start", (after.state, after.started_at), (before.state, before.started_at));
    Ok(())
}

async fn exit_while_away(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.script("sleep 0.5; exit 7")).await?;
    restart(c).await?;
    same!("the code", c.ended(&id).await?.exit_code, 7);
    Ok(())
}

async fn records(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.labels = [("a".to_owned(), "1".to_owned())].into();
    config.annotations = [("b".to_owned(), "2".to_owned())].into();
    let id = c.create(&pod, &config).await?;
    let before = (c.pod_status(&pod.id).await?, c.status(&id).await?);
    restart(c).await?;
    same!("the sandbox", c.pod_status(&pod.id).await?, before.0);
    same!("the container", c.status(&id).await?, before.1);
    Ok(())
}

async fn exec(c: &Context) -> Verdict {
    let (_pod, id) = waiter(c, 0).await?;
    restart(c).await?;
    same!("what it says", c.exec(&id, &["echo", "here"]).await?, "here\n");
    Ok(())
}

async fn stop(c: &Context) -> Verdict {
    let (_pod, id) = waiter(c, 9).await?;
    restart(c).await?;
    c.stop(&id, 20).await?;
    same!("the code", c.ended(&id).await?.exit_code, 9);
    Ok(())
}

async fn remove(c: &Context) -> Verdict {
    let (pod, _id) = waiter(c, 0).await?;
    restart(c).await?;
    c.remove_pod(&pod.id).await?;
    ensure!(c.pods(c.own_pods()).await?.is_empty(), "it is there still");
    Ok(())
}

async fn log(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let script = "n=0; while [ $n -lt 2000 ]; do echo $n; n=$((n+1)); [ $((n % 100)) = 0 ] && sleep 0.05; done; true";
    let id = c.launch(&pod, &c.script(script)).await?;
    restart(c).await?;
    c.ended(&id).await?;
    let wanted: String = (0..2000).map(|n| format!("{n}\n")).collect();
    let found = c.log(&id).await?.stream(Stream::Stdout);
    ensure!(found == wanted, "{} bytes are there, not {}", found.len(), wanted.len());
    Ok(())
}

async fn images(c: &Context) -> Verdict {
    let before = super::image_pull::status(c, c.image()).await?;
    restart(c).await?;
    same!("the image", super::image_pull::status(c, c.image()).await?, before);
    Ok(())
}

async fn network(c: &Context) -> Verdict {
    let pod = c.pod_of(c.networked_config()).await?;
    let before = c.pod_status(&pod.id).await?.network;
    restart(c).await?;
    same!("the network", c.pod_status(&pod.id).await?.network, before);
    Ok(())
}

async fn joins(c: &Context) -> Verdict {
    let (pod, _id) = waiter(c, 0).await?;
    restart(c).await?;
    same!("the id", c.run_pod(&pod.config).await?, pod.id);
    Ok(())
}
