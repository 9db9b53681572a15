//! StopContainer: the signal, the grace period, and the end.

use std::time::{Duration, Instant};

use cri_api::v1::*;
use serde_json::json;

use super::sandbox::NOBODY;
use crate::case::{Stop, Verdict, cases, ensure, same, until};
use crate::context::{Context, Pod};
use crate::shape::waits_and_ends_with;

cases! { "stop":
    "ends-it" Api Api ["StopContainer", "StopContainerRequest.container_id"]
        "StopContainer returns when the container has ended." => ends();
    "again" Api Api ["StopContainer"]
        "Stopping a container that has ended succeeds." => again();
    "created" Api Api ["StopContainer"]
        "Stopping a container that never ran succeeds." => created();
    "unknown" Api Api ["StopContainer"]
        "Stopping a container that is not there succeeds." => unknown();
    "removed" Api Api ["StopContainer", "RemoveContainer"]
        "Stopping a removed container succeeds." => removed();
    "keeps-the-exit-code" Program Api ["StopContainer", "ContainerStatus.exit_code"]
        "A program that ends by itself when it is asked to gives its own exit code." => own_code();
    "keeps-an-old-code" Program Api ["StopContainer", "ContainerStatus.exit_code"]
        "Stopping does not change the code of a container that has ended." => old_code();
    "kills-the-deaf" Program Api ["StopContainer", "StopContainerRequest.timeout",
            "ContainerStatus.exit_code"]
        "What does not end within the timeout is killed: 137." => deaf();
    "gives-time" Program Api ["StopContainer", "StopContainerRequest.timeout"]
        "The program has the timeout to end in." => gives_time();
    "returns-early" Program Kubelet ["StopContainer", "StopContainerRequest.timeout"]
        "A program that ends early ends the wait: the timeout is the most." => early();
    "zero-kills" Program Api ["StopContainer", "StopContainerRequest.timeout"]
        "Timeout 0 kills at once." => zero();
    "shorter-wins" Program Kubelet ["StopContainer", "StopContainerRequest.timeout"]
        "A second call with a shorter timeout does not wait for the first." => shorter();
    "many-at-once" Program Kubelet ["StopContainer"]
        "Several calls at once all succeed." => many();
    "leaves-others" Api Api ["StopContainer"]
        "Another container of the pod goes on." => leaves_others();
    "asked-signal" Program Api ["StopContainer", "ContainerConfig.stop_signal"]
        "The stop signal of the request is sent." => asked_signal();
    "image-signal" Program Oci ["StopContainer"]
        "The image's StopSignal is sent where the request has none." => image_signal();
    "kills-children" Linux Kubelet ["StopContainer"]
        "No process of the container is left, not even one that left its session." => children();
}

async fn asked(c: &Context, code: i32) -> Result<(Pod, String), Stop> {
    let pod = c.pod().await?;
    let id = launch_ready(c, &pod, &c.script(&waits_and_ends_with(code))).await?;
    Ok((pod, id))
}

/// Starts a container and waits until it has said that it is ready for signals.
async fn launch_ready(c: &Context, pod: &Pod, config: &ContainerConfig) -> Result<String, Stop> {
    let id = c.launch(pod, config).await?;
    until!("the program is ready", { c.log(&id).await?.text().contains("ready").then_some(()) });
    Ok(id)
}

async fn code(c: &Context, id: &str) -> Result<i32, Stop> {
    let status = c.status(id).await?;
    if status.state() != ContainerState::ContainerExited {
        return Err(Stop::failed(format!("the state is {:?}", status.state())));
    }
    Ok(status.exit_code)
}

async fn ends(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    c.stop(&id, 20).await?;
    code(c, &id).await.map(|_| ())
}

async fn again(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    for timeout in [0, 0, 10] {
        c.stop(&id, timeout).await?;
    }
    Ok(())
}

async fn created(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    Ok(c.stop(&id, 1).await?)
}

async fn unknown(c: &Context) -> Verdict {
    Ok(c.stop(NOBODY, 1).await?)
}

async fn removed(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    c.remove(&id).await?;
    Ok(c.stop(&id, 1).await?)
}

async fn own_code(c: &Context) -> Verdict {
    let (_pod, id) = asked(c, 42).await?;
    c.stop(&id, 20).await?;
    same!("the code", code(c, &id).await?, 42);
    Ok(())
}

async fn old_code(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let ran = c.run(&pod, &c.script("exit 5")).await?;
    c.stop(&ran.id, 0).await?;
    same!("the status", c.status(&ran.id).await?, ran.status);
    Ok(())
}

const DEAF: &str = "trap '' TERM; echo ready; while :; do sleep 1000 & wait $!; done";

async fn deaf(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = launch_ready(c, &pod, &c.script(DEAF)).await?;
    c.stop(&id, 1).await?;
    same!("the code", code(c, &id).await?, 137);
    Ok(())
}

async fn gives_time(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = launch_ready(c, &pod, &c.script(DEAF)).await?;
    let began = Instant::now();
    c.stop(&id, 2).await?;
    let took = began.elapsed();
    ensure!(took >= Duration::from_millis(1900), "it was killed after {took:?}");
    Ok(())
}

async fn early(c: &Context) -> Verdict {
    let (_pod, id) = asked(c, 0).await?;
    let began = Instant::now();
    c.stop(&id, 50).await?;
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(25), "it took {took:?}");
    same!("the code", code(c, &id).await?, 0);
    Ok(())
}

async fn zero(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = launch_ready(c, &pod, &c.script(DEAF)).await?;
    let began = Instant::now();
    c.stop(&id, 0).await?;
    ensure!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    same!("the code", code(c, &id).await?, 137);
    Ok(())
}

async fn shorter(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = launch_ready(c, &pod, &c.script(DEAF)).await?;
    let began = Instant::now();
    let short = async {
        // The first is under way, or comes later: it must not matter.
        tokio::time::sleep(Duration::from_millis(200)).await;
        c.stop(&id, 1).await
    };
    let (long, short) = tokio::join!(c.stop(&id, 40), short);
    long?;
    short?;
    ensure!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    Ok(())
}

async fn many(c: &Context) -> Verdict {
    let (_pod, id) = asked(c, 0).await?;
    for answer in futures_util::future::join_all((0..5).map(|_| c.stop(&id, 10))).await {
        answer?;
    }
    code(c, &id).await.map(|_| ())
}

async fn leaves_others(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let (one, two) = (c.launch(&pod, &c.waiter()).await?, c.launch(&pod, &c.waiter()).await?);
    c.stop(&one, 0).await?;
    same!("the other's state", c.status(&two).await?.state(), ContainerState::ContainerRunning);
    Ok(())
}

const BY_SIGNAL: &str = "trap 'exit 10' USR1; trap 'exit 20' TERM; echo ready; \
                         while :; do sleep 1000 & wait $!; done";

async fn asked_signal(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script(BY_SIGNAL);
    config.stop_signal = Signal::Sigusr1.into();
    let id = launch_ready(c, &pod, &config).await?;
    if c.status(&id).await?.stop_signal() == Signal::RuntimeDefault {
        return Err(Stop::Skipped("the runtime tells no stop signals".to_owned()));
    }
    c.stop(&id, 20).await?;
    same!("the code", code(c, &id).await?, 10);
    Ok(())
}

async fn image_signal(c: &Context) -> Verdict {
    let image = c.shared.busybox.clone().set("StopSignal", json!("SIGUSR1")).unique(&c.mark);
    let reference = format!("{}:1", c.offer(&image, "signal", "1").await?);
    c.pull(&reference).await?;
    let pod = c.pod().await?;
    let mut config = c.script(BY_SIGNAL);
    config.image.get_or_insert_default().image = reference;
    let id = launch_ready(c, &pod, &config).await?;
    c.stop(&id, 20).await?;
    same!("the code", code(c, &id).await?, 10);
    Ok(())
}

async fn children(c: &Context) -> Verdict {
    let mut config = c.pod_config();
    crate::shape::options(&mut config).pid = NamespaceMode::Node.into();
    let pod = c.pod_of(config).await?;
    let mark = format!("{}", 100_000 + u64::from(std::process::id()));
    let script = format!("setsid sleep {mark} & echo ready; sleep 1000");
    let id = launch_ready(c, &pod, &pod.fit(c.script(&script))).await?;
    let alive = |mark: &str| {
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        let wanted = format!("sleep\0{mark}\0").into_bytes();
        lines.filter(|line| *line == wanted).count()
    };
    until!("the child runs", (alive(&mark) == 1).then_some(()));
    c.stop(&id, 0).await?;
    until!("the child is gone", (alive(&mark) == 0).then_some(()));
    Ok(())
}
