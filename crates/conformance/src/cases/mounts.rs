//! Volumes: of the node, of images, and what a container may do with them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use cri_api::v1::*;
use serde_json::json;

use crate::case::{Stop, Verdict, cases, ensure, same, until};
use crate::context::{Context, spec};
use crate::images::{Compression, Image, Layer};

cases! { "mount":
    "directory" Linux Api ["CreateContainer", "ContainerConfig.mounts", "Mount.container_path",
            "Mount.host_path"]
        "A directory of the node is mounted, and written through." => directory();
    "file" Linux Api ["CreateContainer", "Mount.host_path"]
        "A file of the node is mounted." => file();
    "over-a-file" Linux Kubelet ["CreateContainer", "Mount.container_path"]
        "A file can be mounted over one of the image, as the kubelet does with /etc/hosts." => hosts();
    "target-is-made" Linux Api ["CreateContainer", "Mount.container_path"]
        "A place that is missing is made." => target_is_made();
    "link-is-followed" Linux Api ["CreateContainer", "Mount.host_path"]
        "A link on the node is followed." => link();
    "target-link-stays-inside" Linux Linux ["CreateContainer", "Mount.container_path"]
        "A link of the image in the way of a mount does not lead out of the container." => inside();
    "missing-source" Linux Kubelet ["CreateContainer", "Mount.host_path"]
        "A path that is not on the node is an error." => missing_source();
    "read-only" Linux Api ["CreateContainer", "Mount.readonly"]
        "A read-only mount cannot be written." => readonly();
    "read-only-keeps-submounts" Linux Api ["CreateContainer", "Mount.readonly"] needs [Root]
        "Mounts below a read-only mount are seen." => submounts(false);
    "recursive-read-only" Linux Api ["CreateContainer", "Mount.recursive_read_only"]
        needs [RecursiveReadOnly, Root]
        "With recursive_read_only, mounts below it cannot be written either." => submounts(true);
    "in-order" Linux Api ["CreateContainer", "ContainerConfig.mounts"]
        "Mounts are made in their order: one can lie in another." => nested();
    "same-source-twice" Linux Kubelet ["CreateContainer", "ContainerConfig.mounts"]
        "One directory can be mounted in two places." => twice();
    "shared-by-containers" Linux Kubelet ["CreateContainer", "ContainerConfig.mounts"]
        "What one container writes to a volume another one reads." => shared();
    "private" Linux Api ["CreateContainer", "Mount.propagation"] needs [Root]
        "With private propagation what the node mounts later is not seen." =>
        later(MountPropagation::PropagationPrivate, false);
    "host-to-container" Linux Api ["CreateContainer", "Mount.propagation"] needs [Root]
        "With HOST_TO_CONTAINER what the node mounts later is seen." =>
        later(MountPropagation::PropagationHostToContainer, true);
    "bidirectional" Linux Api ["CreateContainer", "Mount.propagation"] needs [Root]
        "With BIDIRECTIONAL what a privileged container mounts is seen by the node." => outwards();
    "bidirectional-unshared" Linux Api ["CreateContainer", "Mount.propagation"] needs [Root]
        "BIDIRECTIONAL of a mount that the node does not share is an error." => unshared();
    "no-exec" Linux Kubelet ["CreateContainer", "Mount.mount_options"] needs [MountOptions]
        "With noexec nothing of a volume can be executed." => option("noexec");
    "no-suid" Linux Kubelet ["CreateContainer", "Mount.mount_options"] needs [MountOptions]
        "With nosuid the mount has it." => option("nosuid");
    "no-dev" Linux Kubelet ["CreateContainer", "Mount.mount_options"] needs [MountOptions]
        "With nodev the mount has it." => option("nodev");
    "comes-back" Linux Api ["ContainerStatus", "ContainerStatus.mounts", "Mount.readonly"]
        "The mounts come back in the status." => comes_back();
    "image-volume" Linux Api ["CreateContainer", "Mount.image"]
        "An image can be mounted." => image_volume("", "ls /data", "models\n");
    "image-volume-part" Linux Api ["CreateContainer", "Mount.image_sub_path"]
        "A part of an image can be mounted." => image_volume("models", "cat /data/one", "weights\n");
    "image-volume-read-only" Linux Api ["CreateContainer", "Mount.image"]
        "An image that is mounted cannot be written." =>
        image_volume("", "touch /data/x 2>/dev/null || echo refused", "refused\n");
    "image-volume-missing-part" Linux Kubelet ["CreateContainer", "Mount.image_sub_path"]
        "A part that the image does not have is an error." => image_volume_fails("no/such/part");
    "image-volume-escape" Linux Linux ["CreateContainer", "Mount.image_sub_path"]
        "A part that leaves the image is an error." => image_volume_fails("../../etc");
    "anonymous-volume" Linux Oci ["CreateContainer"]
        "A VOLUME of the image can be written, and begins with the image's content." => anonymous();
    "device" Linux Api ["CreateContainer", "ContainerConfig.devices", "Device.container_path",
            "Device.host_path", "Device.permissions"]
        "A device of the node can be used at the path that was asked for." => device();
    "unknown-cdi-device" Linux Kubelet ["CreateContainer", "ContainerConfig.CDI_devices",
            "CDIDevice.name"]
        "A CDI device that nobody describes is an error." => cdi();
    "many" Linux Kubelet ["CreateContainer", "ContainerConfig.mounts"]
        "Fifty mounts are made." => many();
    "odd-names" Linux Kubelet ["CreateContainer", "Mount.host_path", "Mount.container_path"]
        "Spaces, commas and colons in paths are taken as they are." => odd_names();
}

fn bind(host: &Path, container: &str) -> Mount {
    Mount {
        host_path: host.to_string_lossy().into_owned(),
        container_path: container.to_owned(),
        ..Default::default()
    }
}

/// A directory of the node with a file in it.
fn volume(c: &Context) -> Result<PathBuf, Stop> {
    let path = c.directory()?.join(format!("volume-{}", c.number()));
    std::fs::create_dir_all(&path)?;
    std::fs::write(path.join("file"), "words\n")?;
    Ok(path)
}

async fn says(c: &Context, mounts: Vec<Mount>, script: &str) -> Result<String, Stop> {
    let pod = c.pod().await?;
    let mut config = c.script(script);
    config.mounts = mounts;
    c.output(&pod, &config).await
}

async fn directory(c: &Context) -> Verdict {
    let path = volume(c)?;
    let text = says(c, vec![bind(&path, "/data")], "cat /data/file; echo back > /data/new").await?;
    same!("the file", text, "words\n");
    same!("the new file", std::fs::read_to_string(path.join("new"))?, "back\n");
    Ok(())
}

async fn file(c: &Context) -> Verdict {
    let path = volume(c)?.join("file");
    same!("the file", says(c, vec![bind(&path, "/etc/one")], "cat /etc/one").await?, "words\n");
    Ok(())
}

async fn hosts(c: &Context) -> Verdict {
    let path = volume(c)?.join("file");
    let mounts = vec![bind(&path, "/etc/hosts"), bind(&path, "/etc/passwd")];
    same!("the files", says(c, mounts, "cat /etc/hosts /etc/passwd").await?, "words\nwords\n");
    Ok(())
}

async fn target_is_made(c: &Context) -> Verdict {
    let path = volume(c)?;
    same!("the file", says(c, vec![bind(&path, "/a/b/c")], "cat /a/b/c/file").await?, "words\n");
    Ok(())
}

async fn link(c: &Context) -> Verdict {
    let path = volume(c)?;
    let link = path.with_extension("link");
    symlink(&path, &link)?;
    same!("the file", says(c, vec![bind(&link, "/data")], "cat /data/file").await?, "words\n");
    Ok(())
}

async fn inside(c: &Context) -> Verdict {
    let path = volume(c)?;
    let outside = c.directory()?.join("outside");
    std::fs::create_dir_all(&outside)?;
    let target =
        format!("{}{}", "../".repeat(20), outside.display().to_string().trim_start_matches('/'));
    let layer = Layer::new().symlink("out", &target).build(Compression::Gzip)?;
    let image = c.shared.busybox.clone().layer(layer).unique(&c.mark);
    let reference = format!("{}:1", c.offer(&image, "link", "1").await?);
    c.pull(&reference).await?;
    let pod = c.pod().await?;
    let mut config = c.script("true");
    config.image = Some(spec(&reference));
    config.mounts = vec![bind(&path, "/out/inside")];
    // Refused, or contained: both are right.
    drop(c.run(&pod, &config).await);
    ensure!(!outside.join("inside").exists(), "a directory was made on the node");
    Ok(())
}

async fn missing_source(c: &Context) -> Verdict {
    let missing = c.directory()?.join("missing");
    ensure!(says(c, vec![bind(&missing, "/data")], "true").await.is_err(), "it runs");
    Ok(())
}

async fn readonly(c: &Context) -> Verdict {
    let mount = Mount { readonly: true, ..bind(&volume(c)?, "/data") };
    let text = says(c, vec![mount], "cat /data/file; (touch /data/x) 2>&1; true").await?;
    ensure!(text.starts_with("words\n") && text.contains("Read-only"), "it says {text}");
    Ok(())
}

/// Mounts a tmpfs; it goes after the case.
fn tmpfs(c: &Context, at: &Path) -> Result<(), Stop> {
    let done =
        Command::new("mount").args(["-t", "tmpfs", "check", "-o", "size=1m"]).arg(at).output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        return Err(Stop::Skipped(format!("this machine cannot mount: {said}")));
    }
    c.scope.mount(at);
    Ok(())
}

async fn submounts(c: &Context, recursive: bool) -> Verdict {
    let path = volume(c)?;
    let below = path.join("below");
    std::fs::create_dir_all(&below)?;
    tmpfs(c, &below)?;
    std::fs::write(below.join("seen"), "yes\n")?;
    let mount = Mount { readonly: true, recursive_read_only: recursive, ..bind(&path, "/data") };
    let script = "cat /data/below/seen; touch /data/below/x 2>/dev/null && echo written; true";
    let text = says(c, vec![mount], script).await?;
    ensure!(text.starts_with("yes\n"), "it says {text:?}");
    ensure!(!recursive || !text.contains("written"), "it was written");
    Ok(())
}

async fn nested(c: &Context) -> Verdict {
    let (outer, inner) = (volume(c)?, volume(c)?);
    std::fs::write(inner.join("file"), "inner\n")?;
    let mounts = vec![bind(&outer, "/data"), bind(&inner, "/data/sub")];
    same!("the files", says(c, mounts, "cat /data/file /data/sub/file").await?, "words\ninner\n");
    Ok(())
}

async fn twice(c: &Context) -> Verdict {
    let path = volume(c)?;
    let mounts = vec![bind(&path, "/one"), bind(&path, "/two")];
    same!("the files", says(c, mounts, "cat /one/file /two/file").await?, "words\nwords\n");
    Ok(())
}

async fn shared(c: &Context) -> Verdict {
    let path = volume(c)?;
    says(c, vec![bind(&path, "/data")], "echo more >> /data/file").await?;
    same!("the file", says(c, vec![bind(&path, "/x")], "cat /x/file").await?, "words\nmore\n");
    Ok(())
}

/// A directory that is a shared mount of its own.
fn shared_mount(c: &Context) -> Result<PathBuf, Stop> {
    let path = volume(c)?;
    tmpfs(c, &path)?;
    Command::new("mount").arg("--make-shared").arg(&path).output()?;
    std::fs::create_dir_all(path.join("sub"))?;
    Ok(path)
}

async fn later(c: &Context, propagation: MountPropagation, seen: bool) -> Verdict {
    let path = shared_mount(c)?;
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.mounts = vec![Mount { propagation: propagation.into(), ..bind(&path, "/data") }];
    let id = c.launch(&pod, &config).await?;
    tmpfs(c, &path.join("sub"))?;
    std::fs::write(path.join("sub/mark"), "")?;
    let text = c.exec(&id, &["ls", "/data/sub"]).await?;
    same!("being seen", text == "mark\n", seen);
    Ok(())
}

async fn outwards(c: &Context) -> Verdict {
    let path = shared_mount(c)?;
    let mut config = c.pod_config();
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().privileged = true;
    let pod = c.pod_of(config).await?;
    let script = "mount -t tmpfs t /data/sub && touch /data/sub/mark; exec sleep 1000";
    let mut config = c.script(script);
    crate::shape::security(&mut config).privileged = true;
    let propagation = MountPropagation::PropagationBidirectional.into();
    config.mounts = vec![Mount { propagation, ..bind(&path, "/data") }];
    let id = c.launch(&pod, &config).await?;
    let sub = path.join("sub");
    c.scope.mount(&sub);
    let mark = sub.join("mark");
    until!("the mount is seen", mark.exists().then_some(()));
    c.stop(&id, 0).await?;
    Ok(())
}

async fn unshared(c: &Context) -> Verdict {
    let path = volume(c)?;
    tmpfs(c, &path)?;
    Command::new("mount").arg("--make-private").arg(&path).output()?;
    let propagation = MountPropagation::PropagationBidirectional.into();
    let mount = Mount { propagation, ..bind(&path, "/data") };
    ensure!(says(c, vec![mount], "true").await.is_err(), "it runs");
    Ok(())
}

async fn option(c: &Context, option: &str) -> Verdict {
    let mount = Mount { mount_options: vec![option.to_owned()], ..bind(&volume(c)?, "/data") };
    let text = says(c, vec![mount], "grep ' /data ' /proc/self/mounts | cut -d ' ' -f 4").await?;
    ensure!(text.trim().split(',').any(|found| found == option), "they are {text}");
    Ok(())
}

async fn comes_back(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.mounts = vec![Mount { readonly: true, ..bind(&volume(c)?, "/data") }];
    let id = c.create(&pod, &config).await?;
    let found = c.status(&id).await?.mounts;
    let found = found.iter().find(|mount| mount.container_path == "/data");
    let found = found.map(|mount| (&mount.host_path, mount.readonly));
    same!("the mount", found, Some((&config.mounts[0].host_path, true)));
    Ok(())
}

async fn image_mount(c: &Context, part: &str) -> Result<Mount, Stop> {
    let layer = Layer::new()
        .directory("models", 0o755)
        .file("models/one", 0o644, b"weights\n")
        .build(Compression::Gzip)?;
    let image = Image::new(vec![layer]).unique(&c.mark);
    let reference = format!("{}:1", c.offer(&image, "data", "1").await?);
    let id = c.pull(&reference).await?;
    Ok(Mount {
        container_path: "/data".to_owned(),
        image: Some(spec(&id)),
        image_sub_path: part.to_owned(),
        readonly: true,
        ..Default::default()
    })
}

/// Runtimes before Kubernetes 1.31 do not know the field, and see an empty host path.
fn image_volumes_unknown(stop: Stop) -> Stop {
    match stop {
        Stop::Failed { why, .. }
            if why.contains("host path")
                || why.contains("HostPath")
                || why.contains("failed to stat \"\"") =>
        {
            Stop::Skipped(format!("the runtime does not know images as mounts: {why}"))
        }
        other @ (Stop::Failed { .. } | Stop::Skipped(_) | Stop::Unimplemented(_)) => other,
    }
}

async fn image_volume(c: &Context, part: &str, script: &str, wanted: &str) -> Verdict {
    let mount = image_mount(c, part).await?;
    let said = says(c, vec![mount], script).await.map_err(image_volumes_unknown)?;
    same!("what it says", said, wanted);
    Ok(())
}

async fn image_volume_fails(c: &Context, part: &str) -> Verdict {
    let mount = image_mount(c, part).await?;
    ensure!(says(c, vec![mount], "true").await.is_err(), "it runs");
    Ok(())
}

async fn anonymous(c: &Context) -> Verdict {
    let layer = Layer::new()
        .directory("seeded", 0o755)
        .file("seeded/file", 0o644, b"seed\n")
        .build(Compression::Gzip)?;
    let image = c.shared.busybox.clone().layer(layer).unique(&c.mark);
    let image = image.set("Volumes", json!({ "/seeded": {} }));
    let reference = format!("{}:1", c.offer(&image, "volume", "1").await?);
    c.pull(&reference).await?;
    let pod = c.pod().await?;
    let mut config =
        c.script("cat /seeded/file; touch /seeded/x && grep -c ' /seeded ' /proc/self/mounts");
    config.image = Some(spec(&reference));
    // Even where the root is read-only.
    crate::shape::security(&mut config).readonly_rootfs = true;
    same!("what it says", c.output(&pod, &config).await?, "seed\n1\n");
    Ok(())
}

async fn device(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("head -c 4 /dev/its-zero | busybox wc -c");
    config.devices = vec![Device {
        container_path: "/dev/its-zero".to_owned(),
        host_path: "/dev/zero".to_owned(),
        permissions: "rwm".to_owned(),
    }];
    same!("the bytes", c.output(&pod, &config).await?.trim(), "4");
    Ok(())
}

async fn cdi(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("true");
    config.cdi_devices = vec![CdiDevice { name: "check.invalid/device=none".to_owned() }];
    let ran = c.run(&pod, &config).await;
    ensure!(ran.is_err(), "it runs");
    Ok(())
}

async fn many(c: &Context) -> Verdict {
    let path = volume(c)?;
    let mounts = (0..50).map(|number| bind(&path, &format!("/data/{number}"))).collect();
    same!("the files", says(c, mounts, "ls /data/*/file | busybox wc -l").await?.trim(), "50");
    Ok(())
}

async fn odd_names(c: &Context) -> Verdict {
    let path = c.directory()?.join("a b,c:d=e");
    std::fs::create_dir_all(&path)?;
    std::fs::write(path.join("file"), "words\n")?;
    let mounts = vec![bind(&path, "/x y,z:w")];
    same!("the file", says(c, mounts, "cat '/x y,z:w/file'").await?, "words\n");
    Ok(())
}
