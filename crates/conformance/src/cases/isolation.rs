//! What a container may not see or reach.

use crate::case::{Verdict, cases, ensure, same};
use crate::context::Context;

cases! { "isolation":
    "nodes-files" Linux Linux ["CreateContainer"]
        "A container does not see files of the node." => files();
    "nodes-processes" Linux Linux ["CreateContainer"]
        "A container does not see processes of the node." => processes();
    "devices" Linux Kubelet ["CreateContainer"]
        "/dev has the usual devices." => devices();
    "no-block-devices" Linux Linux ["CreateContainer"]
        "/dev has no disk of the node." => no_disks();
    "device-rules" Linux Linux ["CreateContainer"]
        "A device node that a container makes itself cannot be opened." => device_rules();
    "kernel-log" Linux Linux ["CreateContainer"]
        "The kernel's log cannot be cleared." => kernel_log();
    "clock" Linux Linux ["CreateContainer"] "The clock cannot be set." => clock();
    "no-mounts" Linux Linux ["CreateContainer"] "Nothing can be mounted." => mounts();
    "sysctls" Linux Linux ["CreateContainer"]
        "Kernel parameters of the node cannot be written." => sysctls();
    "proc-is-own" Linux Linux ["CreateContainer"]
        "/proc is that of the container's own processes." => proc();
    "cgroups-read-only" Linux Linux ["CreateContainer"]
        "Where cgroups are seen, they cannot be written." => cgroups();
    "root-of-the-image" Linux Linux ["CreateContainer"]
        "The root's parent is the root." => parent();
}

async fn says(c: &Context, script: &str) -> Result<String, crate::case::Stop> {
    let pod = c.pod().await?;
    c.output(&pod, &c.script(script)).await
}

async fn files(c: &Context) -> Verdict {
    let own = c.directory()?;
    let text = says(c, &format!("ls -d {} 2>&1; true", own.display())).await?;
    ensure!(text.contains("No such file"), "it sees {text}");
    Ok(())
}

async fn processes(c: &Context) -> Verdict {
    let text = says(c, "ls -d /proc/[0-9]* | busybox wc -l").await?;
    let count: u32 = text.trim().parse().unwrap_or(u32::MAX);
    ensure!(count <= 4, "it sees {count} processes");
    Ok(())
}

async fn devices(c: &Context) -> Verdict {
    let text = says(c, "ls /dev").await?;
    let wanted = ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd"];
    for name in wanted.iter().chain(&["stdin", "stdout", "stderr"]) {
        ensure!(text.lines().any(|line| line == *name), "{name} is not in {text}");
    }
    Ok(())
}

async fn no_disks(c: &Context) -> Verdict {
    same!("the number of disks", says(c, "find /dev -type b | busybox wc -l").await?.trim(), "0");
    Ok(())
}

async fn device_rules(c: &Context) -> Verdict {
    // 1:1 is physical memory.
    let text = says(c, "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem 2>&1; true").await?;
    ensure!(text.contains("not permitted"), "it says {text:?}");
    Ok(())
}

async fn kernel_log(c: &Context) -> Verdict {
    let text = says(c, "busybox dmesg -c 2>&1 > /dev/null; true").await?;
    ensure!(text.contains("not permitted"), "it says {text:?}");
    Ok(())
}

async fn clock(c: &Context) -> Verdict {
    let text = says(c, "date -s 2001-01-01 2>&1; true").await?;
    ensure!(text.contains("not permitted"), "it says {text:?}");
    Ok(())
}

async fn mounts(c: &Context) -> Verdict {
    let text = says(c, "mount -t tmpfs t /tmp 2>&1 || echo refused").await?;
    ensure!(text.contains("refused"), "it says {text:?}");
    Ok(())
}

async fn sysctls(c: &Context) -> Verdict {
    let mut config = c.script("(echo 1 > /proc/sys/kernel/panic) 2>&1 || echo refused");
    // As the kubelet asks for it, for every container that is not privileged.
    let context = crate::shape::security(&mut config);
    context.readonly_paths =
        ["bus", "fs", "irq", "sys", "sysrq-trigger"].map(|name| format!("/proc/{name}")).to_vec();
    let pod = c.pod().await?;
    let text = c.output(&pod, &config).await?;
    ensure!(text.contains("refused"), "it says {text:?}");
    Ok(())
}

async fn proc(c: &Context) -> Verdict {
    same!("process 1", says(c, "cat /proc/1/comm; true").await?, "sh\n");
    Ok(())
}

async fn cgroups(c: &Context) -> Verdict {
    // What lies around them, such as the tmpfs that version 1's hierarchies are mounted in, is none.
    let text = says(
        c,
        "while read -r source place kind rest; do case $kind in cgroup*) \
                        mkdir $place/x 2>/dev/null && echo made $place/x;; esac; done </proc/mounts; true",
    );
    let text = text.await?;
    ensure!(!text.contains("made"), "it says {text:?}");
    Ok(())
}

async fn parent(c: &Context) -> Verdict {
    same!("what it has", says(c, "ls -d /../../bin/sh").await?, "/../../bin/sh\n");
    Ok(())
}
