//! Containers: their lives, and what comes back of them.

use cri_api::v1::*;
use tonic::Code;

use super::sandbox::{NOBODY, now};
use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::{Context, refused};
use crate::shape::waits_and_ends_with;

cases! { "container":
    "is-created" Api Api ["CreateContainer", "CreateContainerResponse.container_id",
            "ContainerStatus.state"]
        "A container that was created is in state CREATED." => created();
    "created-has-no-times" Api Api ["ContainerStatus", "ContainerStatus.started_at",
            "ContainerStatus.finished_at"]
        "A container that never ran has neither started nor finished." => no_times();
    "runs" Api Api ["StartContainer", "StartContainerRequest.container_id", "ContainerStatus.state"]
        "A container that was started is in state RUNNING." => running();
    "ends" Program Api ["StartContainer", "ContainerStatus.state"]
        "A container whose program ends is in state EXITED." => ends();
    "ids-differ" Api Api ["CreateContainer"]
        "Two containers have two ids." => ids_differ();
    "status-has-its-id" Api Api ["ContainerStatus", "ContainerStatus.id",
            "ContainerStatusRequest.container_id"]
        "The status of a container has the id that was asked for." => own_id();
    "metadata-comes-back" Api Api ["ContainerStatus", "ContainerConfig.metadata",
            "ContainerStatus.metadata", "ContainerMetadata.name", "ContainerMetadata.attempt"]
        "The metadata come back as they were given." => metadata();
    "labels-come-back" Api Api ["ContainerStatus", "ContainerConfig.labels",
            "ContainerStatus.labels"]
        "Labels come back as they were given, all of them and no others." => labels();
    "annotations-come-back" Api Api ["ContainerStatus", "ContainerConfig.annotations",
            "ContainerStatus.annotations"]
        "Annotations come back as they were given, all of them and no others." => annotations();
    "image-comes-back" Api Api ["ContainerStatus", "ContainerConfig.image", "ContainerStatus.image",
            "ImageSpec.image"]
        "The status has an image, by which the container's image can be found." => image();
    "image-spec-comes-back" Api Kubelet ["ContainerStatus", "ImageSpec.user_specified_image",
            "ImageSpec.annotations"]
        "The image's annotations and what the user wrote come back." => image_spec();
    "image-id" Api Kubelet ["ContainerStatus", "ContainerStatus.image_id", "Image.id"]
        "The image's id is that of the image list." => image_id();
    "image-ref" Api Api ["ContainerStatus", "ContainerStatus.image_ref"]
        "The image is given by digest too." => image_ref();
    "image-by-id" Api Api ["CreateContainer", "ContainerConfig.image"]
        "A container can be made of an image by its id." => by_id();
    "log-path" Api Api ["ContainerStatus", "ContainerConfig.log_path", "ContainerStatus.log_path"]
        "The log's path is the pod's directory and the container's path, joined." => log_path();
    "creation-time" Api Api ["ContainerStatus", "ContainerStatus.created_at"]
        "The time of creation lies between call and answer, in nanoseconds." => created_at();
    "start-time" Api Api ["ContainerStatus", "ContainerStatus.started_at"]
        "The time of start lies between call and answer." => started_at();
    "end-time" Program Api ["ContainerStatus", "ContainerStatus.finished_at"]
        "A container finishes after it has started, and not in the future." => finished_at();
    "times-stay" Program Api ["ContainerStatus"]
        "The times of a container that has ended do not change." => times_stay();
    "exit-zero" Program Api ["ContainerStatus", "ContainerStatus.exit_code",
            "ContainerStatus.reason"]
        "A program that ends well gives 0 and Completed." => exit(0, "Completed");
    "exit-one" Program Api ["ContainerStatus", "ContainerStatus.exit_code", "ContainerStatus.reason"]
        "A program that ends with 1 gives 1 and Error." => exit(1, "Error");
    "exit-255" Program Api ["ContainerStatus", "ContainerStatus.exit_code"]
        "The largest exit code is kept." => exit(255, "Error");
    "exit-of-sigkill" Linux Kubelet ["ContainerStatus", "ContainerStatus.exit_code"]
        "A program that is killed gives 137, which is 128 and the signal." => signalled("KILL", 137);
    "exit-of-sigterm" Linux Kubelet ["ContainerStatus", "ContainerStatus.exit_code"]
        "A program that SIGTERM ends gives 143." => signalled("TERM", 143);
    "exit-of-sigabrt" Linux Kubelet ["ContainerStatus", "ContainerStatus.exit_code"]
        "A program that SIGABRT ends gives 134." => signalled("ABRT", 134);
    "runs-once" Program Codes ["StartContainer"]
        "A container that has ended is not started again: FailedPrecondition." => runs_once();
    "start-running" Api Codes ["StartContainer"]
        "A container that runs is not started again, and goes on." => start_running();
    "remove-created" Api Api ["RemoveContainer", "RemoveContainerRequest.container_id"]
        "A container that never ran can be removed." => remove_created();
    "remove-exited" Program Api ["RemoveContainer"]
        "A container that has ended can be removed." => remove_exited();
    "remove-running" Api Api ["RemoveContainer"]
        "A container that runs is removed, by force." => remove_running();
    "remove-again" Api Api ["RemoveContainer"]
        "Removing a removed container succeeds." => remove_again();
    "remove-unknown" Api Api ["RemoveContainer"]
        "Removing a container that is not there succeeds." => remove_unknown();
    "remove-keeps-the-log" Program Api ["RemoveContainer"]
        "The log of a removed container stays." => remove_keeps_log();
    "remove-keeps-the-pod" Api Api ["RemoveContainer", "PodSandboxStatus.state"]
        "A sandbox is ready still when its container was removed." => remove_keeps_pod();
    "next-attempt" Program Kubelet ["CreateContainer", "ContainerMetadata.attempt"]
        "The next attempt runs while the one that has ended is still there." => next_attempt();
    "same-name-after-remove" Api Kubelet ["CreateContainer", "RemoveContainer"]
        "A container can be made again after it was removed, and is another." => again();
    "status-brief" Api Api ["ContainerStatus", "ContainerStatusRequest.verbose",
            "ContainerStatusResponse.info"]
        "Without verbose there is no info." => info(false);
    "status-verbose" Api Api ["ContainerStatus", "ContainerStatusRequest.verbose",
            "ContainerStatusResponse.info"]
        "With verbose there is info." => info(true);
    "many-in-a-pod" Api Kubelet ["CreateContainer", "StartContainer"]
        "Ten containers of a pod that are made at once all run." => many();
    "two-pods-same-name" Api Kubelet ["CreateContainer"]
        "Containers of the same name in two pods are two." => same_name();
    "stop-signal-comes-back" Api Api ["ContainerStatus", "ContainerConfig.stop_signal",
            "ContainerStatus.stop_signal"]
        "The stop signal that was asked for comes back, where the runtime tells one at all." =>
        stop_signal();
    "start-unknown-image-gone" Api Kubelet ["StartContainer", "RemoveImage"]
        "A container that was created starts though its image's names were removed." => image_gone();
}

async fn created(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    same!("the state", c.status(&id).await?.state(), ContainerState::ContainerCreated);
    Ok(())
}

async fn no_times(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    let status = c.status(&id).await?;
    same!("start and finish", [status.started_at, status.finished_at], [0, 0]);
    Ok(())
}

async fn running(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    same!("the state", c.status(&id).await?.state(), ContainerState::ContainerRunning);
    Ok(())
}

async fn ends(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.script("true")).await?;
    c.ended(&id).await.map(|_| ())
}

async fn ids_differ(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let (one, two) = (c.create(&pod, &c.waiter()).await?, c.create(&pod, &c.waiter()).await?);
    ensure!(one != two, "both are {one}");
    Ok(())
}

async fn own_id(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    same!("the id", c.status(&id).await?.id, id);
    Ok(())
}

async fn metadata(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.metadata = Some(ContainerMetadata { name: "main-thing".to_owned(), attempt: 5 });
    let id = c.create(&pod, &config).await?;
    same!("the metadata", c.status(&id).await?.metadata, config.metadata);
    Ok(())
}

async fn labels(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    let texts = [("app", "web"), ("empty", ""), ("odd", "a\nb \"c\" крок")];
    config.labels = texts.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let id = c.create(&pod, &config).await?;
    same!("labels", c.status(&id).await?.labels, config.labels);
    Ok(())
}

async fn annotations(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    let texts = [("example.org/a", "1"), ("example.org/b", "{\"json\": [1]}")];
    config.annotations = texts.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let id = c.create(&pod, &config).await?;
    same!("annotations", c.status(&id).await?.annotations, config.annotations);
    Ok(())
}

async fn image(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    let image = c.status(&id).await?.image.unwrap_or_default().image;
    ensure!(c.image_status(&image).await?.is_some(), "there is no image {image:?}");
    Ok(())
}

async fn image_spec(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    let spec = config.image.get_or_insert_default();
    spec.user_specified_image = "what-the-user-wrote".to_owned();
    spec.annotations.insert("note".to_owned(), "text".to_owned());
    let id = c.create(&pod, &config).await?;
    let image = c.status(&id).await?.image.unwrap_or_default();
    same!("what the user wrote", image.user_specified_image, "what-the-user-wrote");
    same!("the note", image.annotations.get("note").map(String::as_str), Some("text"));
    Ok(())
}

async fn listed_id(c: &Context) -> Result<String, Stop> {
    let image = c.image_status(c.image()).await?;
    image.map(|image| image.id).ok_or_else(|| Stop::failed("the image is not there"))
}

async fn image_id(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    same!("the image's id", c.status(&id).await?.image_id, listed_id(c).await?);
    Ok(())
}

async fn image_ref(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    let found = c.status(&id).await?.image_ref;
    ensure!(found.contains("sha256:"), "it is {found:?}");
    Ok(())
}

async fn by_id(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.image.get_or_insert_default().image = listed_id(c).await?;
    let id = c.launch(&pod, &config).await?;
    same!("the state", c.status(&id).await?.state(), ContainerState::ContainerRunning);
    Ok(())
}

async fn log_path(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let config = c.waiter();
    let id = c.create(&pod, &config).await?;
    let wanted = format!("{}/{}", pod.config.log_directory, config.log_path);
    same!("the path", c.status(&id).await?.log_path, wanted);
    Ok(())
}

async fn created_at(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let before = now();
    let id = c.create(&pod, &c.waiter()).await?;
    let after = now();
    let at = c.status(&id).await?.created_at;
    ensure!((before..=after).contains(&at), "{at} is not between {before} and {after}");
    Ok(())
}

async fn started_at(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    let before = now();
    c.start(&id).await?;
    let after = now();
    let at = c.status(&id).await?.started_at;
    ensure!((before..=after).contains(&at), "{at} is not between {before} and {after}");
    Ok(())
}

async fn finished_at(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let status = c.run(&pod, &c.script("echo x")).await?.status;
    let (started, finished) = (status.started_at, status.finished_at);
    ensure!(started < finished && finished <= now(), "started {started}, finished {finished}");
    Ok(())
}

async fn times_stay(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let ran = c.run(&pod, &c.script("exit 3")).await?;
    c.stop_pod(&pod.id).await?;
    same!("the status later", c.status(&ran.id).await?, ran.status);
    Ok(())
}

async fn exit(c: &Context, code: i32, reason: &str) -> Verdict {
    let pod = c.pod().await?;
    let status = c.run(&pod, &c.script(&format!("exit {code}"))).await?.status;
    same!("the code", status.exit_code, code);
    same!("the reason", status.reason, reason);
    Ok(())
}

async fn signalled(c: &Context, signal: &str, code: i32) -> Verdict {
    let mut pod = c.pod_config();
    // Process 1 of a PID namespace hears only signals that it has a handler for.
    crate::shape::options(&mut pod).pid = NamespaceMode::Node.into();
    let pod = c.pod_of(pod).await?;
    let config = pod.fit(c.script(&format!("kill -{signal} $$; sleep 100")));
    same!("the code", c.run(&pod, &config).await?.status.exit_code, code);
    Ok(())
}

async fn runs_once(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let ran = c.run(&pod, &c.script("true")).await?;
    refused(c.start(&ran.id).await, &[Code::FailedPrecondition])?;
    same!("the state", c.status(&ran.id).await?.state(), ContainerState::ContainerExited);
    Ok(())
}

async fn start_running(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    let before = c.status(&id).await?;
    // A retry whose first answer was lost may be told that all is well.
    if let Err(status) = c.start(&id).await {
        refused(Err::<(), _>(status), &[Code::FailedPrecondition])?;
    }
    same!("the status after", c.status(&id).await?, before);
    Ok(())
}

async fn is_gone(c: &Context, id: &str) -> Verdict {
    refused(c.status(id).await, &[Code::NotFound]).map(|_| ())
}

async fn remove_created(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    c.remove(&id).await?;
    is_gone(c, &id).await
}

async fn remove_exited(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let ran = c.run(&pod, &c.script("true")).await?;
    c.remove(&ran.id).await?;
    is_gone(c, &ran.id).await
}

async fn remove_running(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    c.remove(&id).await?;
    is_gone(c, &id).await
}

async fn remove_again(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    for _ in 0..3 {
        c.remove(&id).await?;
    }
    Ok(())
}

async fn remove_unknown(c: &Context) -> Verdict {
    Ok(c.remove(NOBODY).await?)
}

async fn remove_keeps_log(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let ran = c.run(&pod, &c.script("echo words")).await?;
    c.remove(&ran.id).await?;
    let log = crate::logs::Log::read(ran.status.log_path.as_ref())?;
    same!("the log", log.text(), "words\n");
    Ok(())
}

async fn remove_keeps_pod(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    c.remove(&id).await?;
    same!("the state", c.pod_status(&pod.id).await?.state(), PodSandboxState::SandboxReady);
    Ok(())
}

async fn next_attempt(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("exit 1");
    let first = c.run(&pod, &config).await?;
    config.metadata.get_or_insert_default().attempt += 1;
    config.command = c.waiter().command;
    let second = c.launch(&pod, &config).await?;
    let states = [c.status(&first.id).await?.state(), c.status(&second).await?.state()];
    same!(
        "the states",
        states,
        [ContainerState::ContainerExited, ContainerState::ContainerRunning]
    );
    Ok(())
}

async fn again(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let config = c.waiter();
    let first = c.create(&pod, &config).await?;
    c.remove(&first).await?;
    let second = c.create(&pod, &config).await?;
    ensure!(first != second, "both are {first}");
    Ok(())
}

async fn info(c: &Context, verbose: bool) -> Verdict {
    let pod = c.pod().await?;
    let container_id = c.create(&pod, &c.waiter()).await?;
    let request = ContainerStatusRequest { container_id, verbose };
    let info = c.rpc.container_status(request).await?.info;
    same!("having info", !info.is_empty(), verbose);
    Ok(())
}

async fn many(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let configs: Vec<_> = (0..10).map(|_| c.waiter()).collect();
    let launched = configs.iter().map(|config| c.launch(&pod, config));
    for id in futures_util::future::join_all(launched).await {
        let state = c.status(&id?).await?.state();
        same!("the state", state, ContainerState::ContainerRunning);
    }
    Ok(())
}

async fn same_name(c: &Context) -> Verdict {
    let (one, two) = (c.pod().await?, c.pod().await?);
    let config = c.waiter();
    let ids = [c.create(&one, &config).await?, c.create(&two, &config).await?];
    ensure!(ids[0] != ids[1], "both are {}", ids[0]);
    Ok(())
}

async fn stop_signal(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script(&waits_and_ends_with(0));
    config.stop_signal = Signal::Sigusr1.into();
    let id = c.create(&pod, &config).await?;
    let found = c.status(&id).await?.stop_signal();
    if found == Signal::RuntimeDefault {
        return Err(Stop::Skipped("the runtime tells no stop signals".to_owned()));
    }
    same!("the signal", found, Signal::Sigusr1);
    Ok(())
}

async fn image_gone(c: &Context) -> Verdict {
    let image = c.shared.busybox.clone().unique(&c.mark);
    let reference = format!("{}:1", c.offer(&image, "gone", "1").await?);
    c.pull(&reference).await?;
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.image.get_or_insert_default().image = reference.clone();
    let id = c.create(&pod, &config).await?;
    c.remove_image(&reference).await?;
    c.start(&id).await?;
    same!("the state", c.status(&id).await?.state(), ContainerState::ContainerRunning);
    Ok(())
}
