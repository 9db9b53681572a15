//! Kernel namespaces: own, shared with the pod, the node's, a target's.

use std::path::Path;

use cri_api::v1::*;

use crate::case::{Need, Stop, Verdict, cases, ensure, same};
use crate::context::{Context, Pod};
use crate::shape::{options, security};

cases! { "namespace":
    "pid-own" Linux Api ["CreateContainer", "NamespaceOption.pid"]
        "With PID mode CONTAINER each container has its own processes." => pid_own();
    "pid-pod" Linux Api ["CreateContainer", "NamespaceOption.pid"]
        "With PID mode POD all containers of the pod see each other's processes." => pid_pod();
    "pid-node" Linux Api ["CreateContainer", "NamespaceOption.pid"]
        "With PID mode NODE a container sees the node's processes." => pid_node();
    "pid-target" Linux Api ["CreateContainer", "NamespaceOption.target_id"]
        "With PID mode TARGET a container sees the target's processes." => pid_target();
    "pid-target-survives" Linux Kubelet ["CreateContainer", "NamespaceOption.target_id"]
        "The end of a container that looks at another one leaves that one running." => target_goes_on();
    "ipc-pod" Linux Api ["CreateContainer", "NamespaceOption.ipc"]
        "With IPC mode POD all containers of the pod share one IPC namespace." => ipc(NamespaceMode::Pod);
    "ipc-node" Linux Api ["CreateContainer", "NamespaceOption.ipc"]
        "With IPC mode NODE it is the node's." => ipc(NamespaceMode::Node);
    "network-node" Linux Api ["CreateContainer", "NamespaceOption.network"]
        "With network mode NODE a container has the node's network." => network_node();
    "network-pod" Linux Api ["CreateContainer", "NamespaceOption.network"] needs [PodNetwork]
        "With network mode POD all containers of the pod share one network that is not the node's." =>
        network_pod();
    "mount-own" Linux Linux ["CreateContainer"]
        "Each container has mounts of its own." => mount_own();
    "uts-pod" Linux Kubelet ["CreateContainer"] needs [PodNetwork]
        "All containers of a pod share one host name." => uts_pod();
    "uts-node" Linux Kubelet ["CreateContainer"]
        "A pod in the node's network has the node's host name." => uts_node();
    "shm-of-the-pod" Linux Kubelet ["CreateContainer"]
        "All containers of a pod share /dev/shm." => shm();
    "shm-size" Linux Kubelet ["CreateContainer"]
        "/dev/shm of a pod has 64 MiB." => shm_size();
    "user-own" Linux Api ["RunPodSandbox", "NamespaceOption.userns_options", "UserNamespace.uids",
            "UserNamespace.gids", "UserNamespace.mode", "IDMapping.host_id",
            "IDMapping.container_id", "IDMapping.length"] needs [UserNamespaces]
        "In a user namespace of its own, root of the pod is nobody on the node." => user_own();
    "user-files" Linux Kubelet ["RunPodSandbox", "UserNamespace.uids"] needs [UserNamespaces]
        "In a user namespace, files of the image belong to root inside." => user_files();
    "user-capabilities" Linux Linux ["RunPodSandbox", "UserNamespace"] needs [UserNamespaces]
        "In a user namespace, root cannot change the node's clock." => user_capabilities();
    "user-volume" Linux Kubelet ["CreateContainer", "Mount.uidMappings", "Mount.gidMappings"]
        needs [UserNamespaces, Root]
        "A volume with id mappings shows the node's root as root inside." => user_volume();
    "user-status" Linux Kubelet ["PodSandboxStatus", "NamespaceOption.userns_options"]
        needs [UserNamespaces]
        "The status says which user namespace was asked for." => user_status();
    "leaves-with-pod" Linux Kubelet ["RemovePodSandbox"]
        "A container that ends takes nothing from the pod's other containers." => others_stay();
}

async fn with(c: &Context, change: impl FnOnce(&mut NamespaceOption)) -> Result<Pod, Stop> {
    let mut config = c.pod_config();
    change(options(&mut config));
    c.pod_of(config).await
}

async fn waiter(c: &Context, pod: &Pod) -> Result<String, Stop> {
    c.launch(pod, &pod.fit(c.waiter())).await
}

/// The namespace of a kind that a process of this container is in.
async fn inside(c: &Context, id: &str, kind: &str) -> Result<String, Stop> {
    Ok(c.exec(id, &["readlink", &format!("/proc/self/ns/{kind}")]).await?.trim().to_owned())
}

fn own(kind: &str) -> Result<String, Stop> {
    let link = std::fs::read_link(Path::new("/proc/thread-self/ns").join(kind))?;
    Ok(link.to_string_lossy().into_owned())
}

async fn pid_own(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let (one, two) = (waiter(c, &pod).await?, waiter(c, &pod).await?);
    let found = [inside(c, &one, "pid").await?, inside(c, &two, "pid").await?];
    ensure!(found[0] != found[1], "both have {}", found[0]);
    Ok(())
}

async fn pid_pod(c: &Context) -> Verdict {
    let pod = with(c, |options| options.pid = NamespaceMode::Pod.into()).await?;
    let one = waiter(c, &pod).await?;
    let two = c.launch(&pod, &pod.fit(c.script("exec sleep 4242"))).await?;
    same!("the second's", inside(c, &two, "pid").await?, inside(c, &one, "pid").await?);
    let list = c.exec(&one, &["ps"]).await?;
    ensure!(list.contains("sleep 4242"), "it is not in {list}");
    Ok(())
}

async fn pid_node(c: &Context) -> Verdict {
    let pod = with(c, |options| options.pid = NamespaceMode::Node.into()).await?;
    let id = waiter(c, &pod).await?;
    same!("the namespace", inside(c, &id, "pid").await?, own("pid")?);
    Ok(())
}

async fn targeting(c: &Context) -> Result<(Pod, String, ContainerConfig), Stop> {
    let pod = c.pod().await?;
    let target = waiter(c, &pod).await?;
    let mut config = c.waiter();
    let options = security(&mut config).namespace_options.get_or_insert_default();
    (options.pid, options.target_id) = (NamespaceMode::Target.into(), target.clone());
    Ok((pod, target, config))
}

async fn pid_target(c: &Context) -> Verdict {
    let (pod, target, config) = targeting(c).await?;
    let id = c.launch(&pod, &config).await?;
    same!("the namespace", inside(c, &id, "pid").await?, inside(c, &target, "pid").await?);
    Ok(())
}

async fn target_goes_on(c: &Context) -> Verdict {
    let (pod, target, config) = targeting(c).await?;
    let id = c.launch(&pod, &config).await?;
    c.stop(&id, 0).await?;
    c.remove(&id).await?;
    same!("the target's state", c.status(&target).await?.state(), ContainerState::ContainerRunning);
    Ok(())
}

async fn ipc(c: &Context, mode: NamespaceMode) -> Verdict {
    let pod = with(c, |options| options.ipc = mode.into()).await?;
    let (one, two) = (waiter(c, &pod).await?, waiter(c, &pod).await?);
    let found = inside(c, &one, "ipc").await?;
    same!("the second's", inside(c, &two, "ipc").await?, found);
    same!("being the node's", found == own("ipc")?, mode == NamespaceMode::Node);
    Ok(())
}

async fn network_node(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = waiter(c, &pod).await?;
    same!("the namespace", inside(c, &id, "net").await?, own("net")?);
    Ok(())
}

async fn network_pod(c: &Context) -> Verdict {
    let pod = c.pod_of(c.networked_config()).await?;
    let (one, two) = (waiter(c, &pod).await?, waiter(c, &pod).await?);
    let found = inside(c, &one, "net").await?;
    same!("the second's", inside(c, &two, "net").await?, found);
    ensure!(found != own("net")?, "it is the node's");
    Ok(())
}

async fn mount_own(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let (one, two) = (waiter(c, &pod).await?, waiter(c, &pod).await?);
    let found = [inside(c, &one, "mnt").await?, inside(c, &two, "mnt").await?];
    ensure!(found[0] != found[1] && found[0] != own("mnt")?, "they are {found:?}");
    Ok(())
}

async fn uts_pod(c: &Context) -> Verdict {
    let pod = c.pod_of(c.networked_config()).await?;
    for _ in 0..2 {
        let id = waiter(c, &pod).await?;
        same!("the name", c.exec(&id, &["hostname"]).await?, "the-pod\n");
    }
    Ok(())
}

async fn uts_node(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = waiter(c, &pod).await?;
    let node = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    same!("the name", c.exec(&id, &["cat", "/proc/sys/kernel/hostname"]).await?, node);
    Ok(())
}

async fn shm(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let (one, two) = (waiter(c, &pod).await?, waiter(c, &pod).await?);
    c.exec(&one, &["sh", "-c", "echo words > /dev/shm/file"]).await?;
    same!("the file", c.exec(&two, &["cat", "/dev/shm/file"]).await?, "words\n");
    Ok(())
}

async fn shm_size(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let text = c.output(&pod, &c.script("df -k /dev/shm | tail -1")).await?;
    let size = text.split_whitespace().nth(1).unwrap_or_default();
    same!("the size in KiB", size, "65536");
    Ok(())
}

const HOST: u32 = 2_000_000;
const LENGTH: u32 = 65_536;

fn range() -> Vec<IdMapping> {
    vec![IdMapping { host_id: HOST, container_id: 0, length: LENGTH }]
}

fn user_namespace() -> Option<UserNamespace> {
    Some(UserNamespace { mode: NamespaceMode::Pod.into(), uids: range(), gids: range() })
}

async fn in_user_namespace(c: &Context) -> Result<Pod, Stop> {
    let mut config = c.networked_config();
    options(&mut config).userns_options = user_namespace();
    if let Some(reason) = c.shared.facts.lacks(Need::PodNetwork, &c.shared.options) {
        return Err(Stop::Skipped(reason));
    }
    c.pod_of(config).await
}

async fn user_own(c: &Context) -> Verdict {
    let pod = in_user_namespace(c).await?;
    let script = "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; id -u";
    let text = c.output(&pod, &pod.fit(c.script(script))).await?;
    let line = format!(" 0 {HOST} {LENGTH}\n");
    same!("the maps", text, format!("{line}{line}0\n"));
    Ok(())
}

async fn user_files(c: &Context) -> Verdict {
    let pod = in_user_namespace(c).await?;
    let script = "stat -c '%u %g' /etc/passwd /bin; touch /new && stat -c %u /new";
    let text = c.output(&pod, &pod.fit(c.script(script))).await?;
    same!("the owners", text, "0 0\n0 0\n0\n");
    Ok(())
}

async fn user_capabilities(c: &Context) -> Verdict {
    let pod = in_user_namespace(c).await?;
    let mut config = pod.fit(c.script("date -s 2001-01-01 2>&1; true"));
    let add_capabilities = vec!["SYS_TIME".to_owned()];
    security(&mut config).capabilities =
        Some(Capability { add_capabilities, ..Default::default() });
    let text = c.output(&pod, &config).await?;
    ensure!(text.contains("not permitted"), "it says {text}");
    Ok(())
}

async fn user_volume(c: &Context) -> Verdict {
    let pod = in_user_namespace(c).await?;
    let volume = c.directory()?.join("volume");
    std::fs::create_dir_all(&volume)?;
    std::fs::write(volume.join("file"), "")?;
    let mut config = pod.fit(c.script("stat -c '%u %g' /data/file; touch /data/new"));
    config.mounts = vec![Mount {
        host_path: volume.to_string_lossy().into_owned(),
        container_path: "/data".to_owned(),
        uid_mappings: range(),
        gid_mappings: range(),
        ..Default::default()
    }];
    same!("the owner", c.output(&pod, &config).await?, "0 0\n");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(volume.join("new"))?);
    same!("the new file's owner on the node", owner, 0);
    Ok(())
}

async fn user_status(c: &Context) -> Verdict {
    let pod = in_user_namespace(c).await?;
    let linux = c.pod_status(&pod.id).await?.linux.and_then(|linux| linux.namespaces);
    let found = linux.and_then(|namespaces| namespaces.options).and_then(|o| o.userns_options);
    same!("the user namespace", found, user_namespace());
    Ok(())
}

async fn others_stay(c: &Context) -> Verdict {
    let pod = with(c, |options| options.pid = NamespaceMode::Pod.into()).await?;
    let (one, two) = (waiter(c, &pod).await?, waiter(c, &pod).await?);
    c.stop(&one, 0).await?;
    c.remove(&one).await?;
    same!("what it says", c.exec(&two, &["echo", "here"]).await?, "here\n");
    Ok(())
}
