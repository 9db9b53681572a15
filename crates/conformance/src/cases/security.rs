//! Capabilities, filters, privileges, masked and read-only paths.

use cri_api::v1::security_profile::ProfileType;
use cri_api::v1::*;

use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::Context;
use crate::shape::{options, security};

cases! { "security":
    "default-capabilities" Linux Kubelet ["CreateContainer",
            "LinuxContainerSecurityContext.capabilities"]
        "Without a wish a container has the fourteen capabilities that all runtimes give." =>
        effective(&[], &[], "00000000a80425fb");
    "drop-all" Linux Api ["CreateContainer", "Capability.drop_capabilities"]
        "Dropping ALL leaves none." => effective(&[], &["ALL"], "0000000000000000");
    "drop-all-bounds" Linux Linux ["CreateContainer", "Capability.drop_capabilities"]
        "Dropping ALL leaves none that could come back." => bounding();
    "drop-one" Linux Api ["CreateContainer", "Capability.drop_capabilities"]
        "Dropping one leaves the others." => effective(&[], &["CHOWN"], "00000000a80425fa");
    "add-one" Linux Api ["CreateContainer", "Capability.add_capabilities"]
        "Adding one keeps the others." => effective(&["NET_ADMIN"], &[], "00000000a80435fb");
    "add-to-none" Linux Api ["CreateContainer", "Capability.add_capabilities"]
        "Dropping ALL and adding one leaves that one." =>
        effective(&["NET_ADMIN"], &["ALL"], "0000000000001000");
    "add-all" Linux Api ["CreateContainer", "Capability.add_capabilities"]
        "Adding ALL gives what the node has." => add_all();
    "add-all-but-one" Linux Api ["CreateContainer", "Capability.drop_capabilities"]
        "What is dropped by name wins over an added ALL." => all_but_one();
    "with-prefix" Linux Kubelet ["CreateContainer", "Capability.add_capabilities"]
        "Names work with CAP_ before them." => effective(&["CAP_NET_ADMIN"], &["ALL"], "0000000000001000");
    "not-for-others" Linux Linux ["CreateContainer"]
        "A user other than root has none in effect." => not_for_others();
    "ambient" Linux Api ["CreateContainer", "Capability.add_ambient_capabilities"]
        "Ambient capabilities are in effect for a user other than root." => ambient();
    "seccomp-default" Linux Kubelet ["CreateContainer", "LinuxContainerSecurityContext.seccomp",
            "SecurityProfile.profile_type"]
        "Profile RuntimeDefault sets a filter." => seccomp(Some(ProfileType::RuntimeDefault), "2");
    "seccomp-unconfined" Linux Kubelet ["CreateContainer", "SecurityProfile.profile_type"]
        "Profile Unconfined sets none." => seccomp(Some(ProfileType::Unconfined), "0");
    "seccomp-absent" Linux Kubelet ["CreateContainer", "LinuxContainerSecurityContext.seccomp"]
        "No profile is no filter." => seccomp(None, "0");
    "seccomp-local" Linux Kubelet ["CreateContainer", "SecurityProfile.localhost_ref"]
        "A profile of the node is followed." => local();
    "seccomp-missing" Linux Kubelet ["CreateContainer", "SecurityProfile.localhost_ref"]
        "A profile that is not there is an error." => missing_profile();
    "seccomp-refuses" Linux Kubelet ["CreateContainer", "LinuxContainerSecurityContext.seccomp"]
        "The default filter refuses a new user namespace to those without privilege." => refuses();
    "no-new-privileges" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.no_new_privs"]
        "With no_new_privs no program can gain privileges." => no_new_privs(true, "1");
    "new-privileges" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.no_new_privs"]
        "Without it they can." => no_new_privs(false, "0");
    "masked-file" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.masked_paths"]
        "A masked file is empty." => masked_file();
    "masked-directory" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.masked_paths"]
        "A masked directory is empty." => masked_directory();
    "read-only-path" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.readonly_paths"]
        "A read-only path cannot be written." => readonly_path();
    "missing-paths" Linux Kubelet ["CreateContainer", "LinuxContainerSecurityContext.masked_paths",
            "LinuxContainerSecurityContext.readonly_paths"]
        "Masked and read-only paths that are not there are no error." => missing_paths();
    "read-only-root" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.readonly_rootfs"]
        "A read-only root cannot be written." => readonly_root();
    "read-only-root-has-shm" Linux Kubelet ["CreateContainer",
            "LinuxContainerSecurityContext.readonly_rootfs"]
        "With a read-only root /dev/shm can be written." => readonly_shm();
    "writable-root" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.readonly_rootfs"]
        "Else it can be written." => writable_root();
    "privileged-capabilities" Linux Api ["CreateContainer",
            "LinuxContainerSecurityContext.privileged", "LinuxSandboxSecurityContext.privileged"]
        "A privileged container has all capabilities." => privileged(Look::Capabilities);
    "privileged-unfiltered" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.privileged"]
        "A privileged container has no filter." => privileged(Look::Filter);
    "privileged-devices" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.privileged"]
        "A privileged container has the node's devices." => privileged(Look::Devices);
    "privileged-mounts" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.privileged"]
        "A privileged container can mount." => privileged(Look::Mounts);
    "privileged-sysfs" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.privileged"]
        "A privileged container has /sys writable." => privileged(Look::Sysfs);
    "plain-sysfs" Linux Kubelet ["CreateContainer"]
        "Another container has /sys read-only." => plain_sysfs();
    "apparmor-unconfined" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.apparmor"]
        "Profile Unconfined of AppArmor is taken, with AppArmor and without." => apparmor();
    "apparmor-missing" Linux Kubelet ["CreateContainer", "LinuxContainerSecurityContext.apparmor"]
        "A profile of AppArmor that is not loaded is an error." => apparmor_missing();
}

async fn said(
    c: &Context,
    script: &str,
    change: impl FnOnce(&mut LinuxContainerSecurityContext),
) -> Result<String, Stop> {
    let pod = c.pod().await?;
    let mut config = c.script(script);
    change(security(&mut config));
    c.output(&pod, &config).await
}

/// A field of a process' status.
fn field<'t>(status: &'t str, name: &str) -> &'t str {
    let line = status.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default()
}

const STATUS: &str = "cat /proc/self/status";

fn capabilities(add: &[&str], drop: &[&str]) -> Option<Capability> {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Some(Capability {
        add_capabilities: owned(add),
        drop_capabilities: owned(drop),
        ..Default::default()
    })
}

async fn effective(c: &Context, add: &[&str], drop: &[&str], wanted: &str) -> Verdict {
    let text = said(c, STATUS, |s| s.capabilities = capabilities(add, drop)).await?;
    same!("what is in effect", field(&text, "CapEff:"), wanted);
    Ok(())
}

async fn bounding(c: &Context) -> Verdict {
    let text = said(c, STATUS, |s| s.capabilities = capabilities(&[], &["ALL"])).await?;
    for set in ["CapInh:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        same!(set, field(&text, set), "0000000000000000");
    }
    Ok(())
}

fn node_bits() -> Result<u64, Stop> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    u64::from_str_radix(field(&text, "CapEff:"), 16)
        .map_err(|error| Stop::failed(error.to_string()))
}

fn bits(text: &str) -> u64 {
    u64::from_str_radix(field(text, "CapEff:"), 16).unwrap_or_default()
}

async fn add_all(c: &Context) -> Verdict {
    let text = said(c, STATUS, |s| s.capabilities = capabilities(&["ALL"], &[])).await?;
    same!("what is in effect", format!("{:x}", bits(&text)), format!("{:x}", node_bits()?));
    Ok(())
}

async fn all_but_one(c: &Context) -> Verdict {
    let text = said(c, STATUS, |s| s.capabilities = capabilities(&["ALL"], &["CHOWN"])).await?;
    same!("what is in effect", format!("{:x}", bits(&text)), format!("{:x}", node_bits()? & !1));
    Ok(())
}

async fn not_for_others(c: &Context) -> Verdict {
    let text = said(c, STATUS, |s| s.run_as_user = Some(Int64Value { value: 1000 })).await?;
    same!("what is in effect", field(&text, "CapEff:"), "0000000000000000");
    Ok(())
}

async fn ambient(c: &Context) -> Verdict {
    let wish = |s: &mut LinuxContainerSecurityContext| {
        s.run_as_user = Some(Int64Value { value: 1000 });
        s.capabilities = Some(Capability {
            add_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
            add_ambient_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
            ..Default::default()
        });
    };
    let text = said(c, STATUS, wish).await?;
    same!("what is ambient", field(&text, "CapAmb:"), "0000000000000400");
    same!("what is in effect", field(&text, "CapEff:"), "0000000000000400");
    Ok(())
}

async fn seccomp(c: &Context, kind: Option<ProfileType>, wanted: &str) -> Verdict {
    let profile = kind
        .map(|kind| SecurityProfile { profile_type: kind.into(), localhost_ref: String::new() });
    let text = said(c, STATUS, |s| s.seccomp = profile).await?;
    same!("the mode", field(&text, "Seccomp:"), wanted);
    Ok(())
}

fn of_node(path: &str) -> Option<SecurityProfile> {
    let localhost_ref = path.to_owned();
    Some(SecurityProfile { profile_type: ProfileType::Localhost.into(), localhost_ref })
}

async fn local(c: &Context) -> Verdict {
    let path = c.directory()?.join("profile.json");
    let text = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }] }"#;
    std::fs::write(&path, text)?;
    let profile = of_node(&path.to_string_lossy());
    let text = said(c, "mkdir /tmp/x 2>&1; true", |s| s.seccomp = profile).await?;
    ensure!(text.contains("not supported"), "it says {text:?}");
    Ok(())
}

async fn missing_profile(c: &Context) -> Verdict {
    let profile = of_node("/no/such/profile.json");
    ensure!(said(c, "true", |s| s.seccomp = profile).await.is_err(), "it runs");
    Ok(())
}

async fn refuses(c: &Context) -> Verdict {
    let text = said(c, "busybox unshare -U true 2>&1; true", |_| {}).await?;
    ensure!(text.contains("not permitted"), "it says {text:?}");
    Ok(())
}

async fn no_new_privs(c: &Context, wish: bool, wanted: &str) -> Verdict {
    let text = said(c, STATUS, |s| s.no_new_privs = wish).await?;
    same!("NoNewPrivs", field(&text, "NoNewPrivs:"), wanted);
    Ok(())
}

async fn masked_file(c: &Context) -> Verdict {
    let text = said(c, "wc -c < /etc/passwd", |s| s.masked_paths = vec!["/etc/passwd".to_owned()]);
    same!("its size", text.await?.trim(), "0");
    Ok(())
}

async fn masked_directory(c: &Context) -> Verdict {
    let text = said(c, "ls -A /bin/../home | busybox wc -l", |s| {
        s.masked_paths = vec!["/home".to_owned()];
    });
    same!("the number of its files", text.await?.trim(), "0");
    Ok(())
}

async fn readonly_path(c: &Context) -> Verdict {
    let script = "(echo 1 > /proc/sys/kernel/panic) 2>&1; (touch /home/x) 2>&1; true";
    let text = said(c, script, |s| {
        s.readonly_paths = vec!["/proc/sys".to_owned(), "/home".to_owned()];
    });
    same!("the number of refusals", text.await?.matches("Read-only file system").count(), 2);
    Ok(())
}

async fn missing_paths(c: &Context) -> Verdict {
    let missing = vec!["/no/such/path".to_owned()];
    let text = said(c, "ls -d /no 2>&1 | grep -c 'No such'", |s| {
        (s.masked_paths, s.readonly_paths) = (missing.clone(), missing);
    });
    same!("being missing", text.await?.trim(), "1");
    Ok(())
}

async fn readonly_root(c: &Context) -> Verdict {
    let text = said(c, "(touch /x /tmp/x) 2>&1; true", |s| s.readonly_rootfs = true).await?;
    same!("the number of refusals", text.matches("Read-only file system").count(), 2);
    Ok(())
}

async fn readonly_shm(c: &Context) -> Verdict {
    let script = "touch /dev/shm/x && echo fine";
    same!("what it says", said(c, script, |s| s.readonly_rootfs = true).await?, "fine\n");
    Ok(())
}

async fn writable_root(c: &Context) -> Verdict {
    same!("what it says", said(c, "touch /x && echo fine", |_| {}).await?, "fine\n");
    Ok(())
}

#[derive(Clone, Copy)]
enum Look {
    Capabilities,
    Filter,
    Devices,
    Mounts,
    Sysfs,
}

async fn privileged(c: &Context, look: Look) -> Verdict {
    let mut config = c.pod_config();
    options(&mut config);
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().privileged = true;
    let pod = c.pod_of(config).await?;
    let script = match look {
        Look::Capabilities | Look::Filter => STATUS,
        Look::Devices => "ls /dev | busybox wc -l",
        Look::Mounts => "mount -t tmpfs t /tmp && echo fine",
        Look::Sysfs => "grep -c ' /sys sysfs rw' /proc/self/mounts",
    };
    let mut config = c.script(script);
    security(&mut config).privileged = true;
    let text = c.output(&pod, &config).await?;
    match look {
        Look::Capabilities => {
            same!("what is in effect", format!("{:x}", bits(&text)), format!("{:x}", node_bits()?));
        }
        Look::Filter => same!("the mode", field(&text, "Seccomp:"), "0"),
        Look::Devices => {
            let plain = said(c, script, |_| {}).await?;
            let count = |text: &str| text.trim().parse::<u32>().unwrap_or_default();
            ensure!(count(&text) >= count(&plain), "{text} devices, and {plain} without privilege");
        }
        Look::Mounts => same!("what it says", text, "fine\n"),
        Look::Sysfs => same!("the number of mounts", text, "1\n"),
    }
    Ok(())
}

async fn plain_sysfs(c: &Context) -> Verdict {
    let script = "grep -c ' /sys sysfs ro' /proc/self/mounts";
    same!("the number of mounts", said(c, script, |_| {}).await?, "1\n");
    Ok(())
}

async fn apparmor(c: &Context) -> Verdict {
    let kind = ProfileType::Unconfined.into();
    let profile = Some(SecurityProfile { profile_type: kind, localhost_ref: String::new() });
    same!("what it says", said(c, "echo fine", |s| s.apparmor = profile).await?, "fine\n");
    Ok(())
}

async fn apparmor_missing(c: &Context) -> Verdict {
    let profile = of_node("no-such-profile");
    ensure!(said(c, "true", |s| s.apparmor = profile).await.is_err(), "it runs");
    Ok(())
}
