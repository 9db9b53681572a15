//! Limits of containers and pods.

use cri_api::v1::*;

use crate::case::{Stop, Verdict, cases, ensure, same, until};
use crate::context::Context;
use crate::shape::resources;

cases! { "resources":
    "memory-limit" Linux Api ["CreateContainer", "LinuxContainerConfig.resources",
            "LinuxContainerResources.memory_limit_in_bytes"]
        "The limit of memory is the cgroup's." => limit(
            |r| r.memory_limit_in_bytes = 64 << 20,
            "memory", "memory.limit_in_bytes", "memory.max", "67108864", "67108864"
        );
    "cpu-quota" Linux Api ["CreateContainer", "LinuxContainerResources.cpu_quota",
            "LinuxContainerResources.cpu_period"]
        "Quota and period of the CPU are the cgroup's." => limit(
            |r| (r.cpu_quota, r.cpu_period) = (20_000, 100_000),
            "cpu", "cpu.cfs_quota_us", "cpu.max", "20000", "20000 100000"
        );
    "cpu-shares" Linux Api ["CreateContainer", "LinuxContainerResources.cpu_shares"]
        "The weight of the CPU is the cgroup's." => limit(
            |r| r.cpu_shares = 512,
            "cpu", "cpu.shares", "cpu.weight", "512", ""
        );
    "cpus" Linux Api ["CreateContainer", "LinuxContainerResources.cpuset_cpus"]
        "The CPUs are those that were asked for." => cpus();
    "oom-score" Linux Api ["CreateContainer", "LinuxContainerResources.oom_score_adj"]
        "oom_score_adj is the process's." => oom_score();
    "no-limits" Linux Api ["CreateContainer", "LinuxContainerConfig.resources"]
        "A container without limits runs." => none();
    "oom-kill" Linux Kubelet ["ContainerStatus", "ContainerStatus.reason"]
        "A container that is killed by its own limit has the reason OOMKilled and 137." => oom();
    "come-back" Linux Kubelet ["ContainerStatus", "ContainerStatus.resources",
            "ContainerResources.linux"]
        "The limits come back in the status." => come_back();
    "update-memory" Linux Api ["UpdateContainerResources", "UpdateContainerResourcesRequest.linux"]
        "A new limit of memory holds for a container that runs." => update(Change::Memory, true);
    "update-cpu" Linux Api ["UpdateContainerResources", "UpdateContainerResourcesRequest.linux"]
        "A new quota of the CPU holds for a container that runs." => update(Change::Cpu, true);
    "update-created" Linux Kubelet ["UpdateContainerResources"]
        "A new limit of a container that is yet to start holds when it runs." =>
        update(Change::Memory, false);
    "update-comes-back" Linux Kubelet ["UpdateContainerResources", "ContainerStatus.resources"]
        "What was changed comes back in the status." => update_comes_back();
    "update-keeps-the-rest" Linux Api ["UpdateContainerResources"]
        "What an update does not name stays as it is." => update_keeps();
    "update-leaves-it-running" Linux Api ["UpdateContainerResources"]
        "An update does not touch the program." => update_leaves();
    "update-annotated" Api Api ["UpdateContainerResources",
            "UpdateContainerResourcesRequest.annotations"]
        "Annotations on an update are no obstacle." => update_annotated();
    "pod-update" Api Kubelet ["UpdatePodSandboxResources",
            "UpdatePodSandboxResourcesRequest.resources",
            "UpdatePodSandboxResourcesRequest.overhead"]
        "New limits of a pod are taken." => pod_update();
    "pod-overhead" Api Api ["RunPodSandbox", "LinuxPodSandboxConfig.overhead",
            "LinuxPodSandboxConfig.resources"]
        "A pod with overhead and limits runs." => pod_limits();
    "bad-cpus" Linux Codes ["CreateContainer", "LinuxContainerResources.cpuset_cpus"]
        "CPUs that the machine does not have are an error." => bad_cpus();
    "many-processes" Linux Linux ["CreateContainer"]
        "A container without a limit of processes can have two hundred." => processes();
}

/// The path of a file of the container's own cgroup, as a shell finds it: a version 1 hierarchy, else
/// version 2.
fn file(controller: &str, v1: &str, v2: &str) -> String {
    format!(
        "if [ -e /sys/fs/cgroup/{controller}/{v1} ]; then cat /sys/fs/cgroup/{controller}/{v1}; \
         elif [ -e /sys/fs/cgroup/cpu,cpuacct/{v1} ]; then cat /sys/fs/cgroup/cpu,cpuacct/{v1}; \
         elif [ -e /sys/fs/cgroup/{v2} ]; then echo v2; cat /sys/fs/cgroup/{v2}; else echo unseen; fi"
    )
}

/// What the file says; skips where the container sees no cgroups.
async fn read(
    c: &Context,
    id: &str,
    controller: &str,
    v1: &str,
    v2: &str,
) -> Result<(bool, String), Stop> {
    let text = c.exec(id, &["sh", "-c", &file(controller, v1, v2)]).await?;
    let text = text.trim();
    if text == "unseen" {
        return Err(Stop::Skipped("the container sees no cgroups".to_owned()));
    }
    Ok(text
        .strip_prefix("v2")
        .map_or((false, text.to_owned()), |rest| (true, rest.trim().to_owned())))
}

async fn limit(
    c: &Context,
    change: fn(&mut LinuxContainerResources),
    controller: &str,
    v1: &str,
    v2: &str,
    wanted_v1: &str,
    wanted_v2: &str,
) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    change(resources(&mut config));
    let id = c.launch(&pod, &config).await?;
    let (is_v2, found) = read(c, &id, controller, v1, v2).await?;
    let wanted = if is_v2 { wanted_v2 } else { wanted_v1 };
    ensure!(wanted.is_empty() || found == wanted, "it is {found:?}, not {wanted:?}");
    Ok(())
}

async fn cpus(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("grep Cpus_allowed_list /proc/self/status");
    resources(&mut config).cpuset_cpus = "0".to_owned();
    let text = c.output(&pod, &config).await?;
    same!("the CPUs", text.split_whitespace().nth(1), Some("0"));
    Ok(())
}

async fn oom_score(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("cat /proc/self/oom_score_adj");
    resources(&mut config).oom_score_adj = 500;
    same!("the score", c.output(&pod, &config).await?, "500\n");
    Ok(())
}

async fn none(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("echo fine");
    config.linux.get_or_insert_default().resources = None;
    same!("what it says", c.output(&pod, &config).await?, "fine\n");
    Ok(())
}

async fn oom(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    // tail keeps a line without an end in memory.
    let mut config = c.container(&["tail", "/dev/zero"]);
    let wanted = resources(&mut config);
    wanted.memory_limit_in_bytes = 32 << 20;
    wanted.memory_swap_limit_in_bytes = 32 << 20;
    let status = c.run(&pod, &config).await?.status;
    same!("code and reason", (status.exit_code, &*status.reason), (137, "OOMKilled"));
    Ok(())
}

async fn told(c: &Context, id: &str) -> Result<LinuxContainerResources, Stop> {
    let found = c.status(id).await?.resources.and_then(|resources| resources.linux);
    found.ok_or_else(|| Stop::failed("the status has no limits"))
}

async fn come_back(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    let wanted = resources(&mut config);
    (wanted.memory_limit_in_bytes, wanted.cpu_shares) = (64 << 20, 512);
    (wanted.cpu_quota, wanted.cpu_period) = (30_000, 100_000);
    let id = c.launch(&pod, &config).await?;
    let found = told(c, &id).await?;
    let all = [found.memory_limit_in_bytes, found.cpu_shares, found.cpu_quota, found.cpu_period];
    same!("the limits", all, [64 << 20, 512, 30_000, 100_000]);
    Ok(())
}

#[derive(Clone, Copy)]
enum Change {
    Memory,
    Cpu,
}

async fn change(
    c: &Context,
    id: &str,
    linux: LinuxContainerResources,
) -> Result<(), tonic::Status> {
    let container_id = id.to_owned();
    let linux = Some(linux);
    let request = UpdateContainerResourcesRequest { container_id, linux, ..Default::default() };
    c.rpc.update_container_resources(request).await.map(drop)
}

async fn update(c: &Context, what: Change, running: bool) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    let first = resources(&mut config);
    (first.memory_limit_in_bytes, first.cpu_quota, first.cpu_period) = (64 << 20, 20_000, 100_000);
    let id = c.create(&pod, &config).await?;
    if running {
        c.start(&id).await?;
    }
    let linux = match what {
        Change::Memory => {
            LinuxContainerResources { memory_limit_in_bytes: 96 << 20, ..Default::default() }
        }
        Change::Cpu => {
            LinuxContainerResources { cpu_quota: 50_000, cpu_period: 100_000, ..Default::default() }
        }
    };
    change(c, &id, linux).await?;
    if !running {
        c.start(&id).await?;
    }
    let (is_v2, found) = match what {
        Change::Memory => read(c, &id, "memory", "memory.limit_in_bytes", "memory.max").await?,
        Change::Cpu => read(c, &id, "cpu", "cpu.cfs_quota_us", "cpu.max").await?,
    };
    let wanted = match (what, is_v2) {
        (Change::Memory, _) => "100663296",
        (Change::Cpu, false) => "50000",
        (Change::Cpu, true) => "50000 100000",
    };
    same!("the limit", found, wanted);
    Ok(())
}

async fn update_comes_back(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    change(c, &id, LinuxContainerResources { cpu_shares: 256, ..Default::default() }).await?;
    same!("the weight", told(c, &id).await?.cpu_shares, 256);
    Ok(())
}

async fn update_keeps(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    let first = resources(&mut config);
    (first.memory_limit_in_bytes, first.cpu_shares) = (64 << 20, 512);
    let id = c.launch(&pod, &config).await?;
    change(c, &id, LinuxContainerResources { cpu_shares: 256, ..Default::default() }).await?;
    let (_, found) = read(c, &id, "memory", "memory.limit_in_bytes", "memory.max").await?;
    same!("the limit of memory", found, "67108864");
    Ok(())
}

async fn update_leaves(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    let before = c.status(&id).await?;
    change(c, &id, LinuxContainerResources { cpu_shares: 256, ..Default::default() }).await?;
    let after = c.status(&id).await?;
    same!("state and start", (after.state, after.started_at), (before.state, before.started_at));
    Ok(())
}

async fn update_annotated(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    let request = UpdateContainerResourcesRequest {
        container_id: id,
        linux: Some(LinuxContainerResources { cpu_shares: 256, ..Default::default() }),
        annotations: [("note".to_owned(), "text".to_owned())].into(),
        windows: None,
    };
    c.rpc.update_container_resources(request).await?;
    Ok(())
}

async fn pod_update(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let limits = LinuxContainerResources { cpu_shares: 512, ..Default::default() };
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.id.clone(),
        overhead: Some(LinuxContainerResources::default()),
        resources: Some(limits),
    };
    c.rpc.update_pod_sandbox_resources(request).await?;
    same!("the state", c.pod_status(&pod.id).await?.state(), PodSandboxState::SandboxReady);
    Ok(())
}

async fn pod_limits(c: &Context) -> Verdict {
    let mut config = c.pod_config();
    let linux = config.linux.get_or_insert_default();
    let limits = LinuxContainerResources { memory_limit_in_bytes: 256 << 20, ..Default::default() };
    linux.resources = Some(limits);
    linux.overhead = Some(LinuxContainerResources { cpu_shares: 10, ..Default::default() });
    let pod = c.pod_of(config).await?;
    c.launch(&pod, &c.waiter()).await.map(|_| ())
}

async fn bad_cpus(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("true");
    resources(&mut config).cpuset_cpus = "4000".to_owned();
    ensure!(c.run(&pod, &config).await.is_err(), "it runs");
    Ok(())
}

async fn processes(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    let script =
        "n=0; while [ $n -lt 200 ]; do sleep 30 & n=$((n+1)); done; echo $n; kill $(jobs -p)";
    let said = c.exec(&id, &["sh", "-c", script]).await?;
    same!("the number", said.trim(), "200");
    until!("they are gone", {
        let left = c.exec(&id, &["sh", "-c", "ps | grep -c '[s]leep 30'; true"]).await?;
        (left.trim() == "0").then_some(())
    });
    Ok(())
}
