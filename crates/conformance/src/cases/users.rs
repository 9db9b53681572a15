//! Users and groups.

use std::collections::BTreeSet;

use cri_api::v1::*;
use serde_json::json;

use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::{Context, Ran};
use crate::shape::security;

cases! { "user":
    "root-by-default" Linux Oci ["CreateContainer", "LinuxContainerSecurityContext.run_as_user"]
        "Where neither request nor image say anything, the user is root." => ids(|_| {}, "0 0");
    "by-number" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.run_as_user",
            "Int64Value.value"]
        "A user by number runs with it." =>
        ids(|s| s.run_as_user = Some(Int64Value { value: 1000 }), "1000 1000");
    "by-unknown-number" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.run_as_user"]
        "A number that the image does not know is fine; its group is root." =>
        ids(|s| s.run_as_user = Some(Int64Value { value: 4711 }), "4711 0");
    "by-name" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.run_as_username"]
        "A user by name is looked up in the image." =>
        ids(|s| s.run_as_username = "worker".to_owned(), "1000 1000");
    "by-unknown-name" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.run_as_username"]
        "A name that the image does not know is an error." => unknown_name();
    "with-group" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.run_as_group"]
        "A group by number replaces the user's own." => ids(
            |s| {
                s.run_as_user = Some(Int64Value { value: 1000 });
                s.run_as_group = Some(Int64Value { value: 3000 });
            },
            "1000 3000"
        );
    "name-with-group" Linux Api ["CreateContainer", "LinuxContainerSecurityContext.run_as_group",
            "LinuxContainerSecurityContext.run_as_username"]
        "A group goes with a user by name too." => ids(
            |s| {
                s.run_as_username = "worker".to_owned();
                s.run_as_group = Some(Int64Value { value: 3000 });
            },
            "1000 3000"
        );
    "of-the-image-by-number" Linux Oci ["CreateContainer"]
        "The image's user counts where the request has none: by number." => of_image("1000", "1000 1000");
    "of-the-image-by-name" Linux Oci ["CreateContainer"]
        "The image's user counts where the request has none: by name." => of_image("worker", "1000 1000");
    "of-the-image-with-group" Linux Oci ["CreateContainer"]
        "The image's user may have a group." => of_image("worker:extra", "1000 2000");
    "of-the-image-by-numbers" Linux Oci ["CreateContainer"]
        "User and group of the image may be numbers that it does not know." => of_image("7:8", "7 8");
    "request-wins" Linux Kubelet ["CreateContainer", "LinuxContainerSecurityContext.run_as_user"]
        "The request's user wins over the image's." => request_wins();
    "groups-are-added" Linux Api ["CreateContainer",
            "LinuxContainerSecurityContext.supplemental_groups"]
        "Supplemental groups of the request are the process's." => added();
    "groups-of-the-image" Linux Api ["CreateContainer",
            "LinuxContainerSecurityContext.supplemental_groups_policy"]
        "With policy Merge, the groups that the image gives the user come too." => merged();
    "strict-groups" Linux Api ["CreateContainer",
            "LinuxContainerSecurityContext.supplemental_groups_policy"] needs [GroupsPolicy]
        "With policy Strict, only the request's groups count." => strict();
    "status-tells" Linux Api ["ContainerStatus", "ContainerStatus.user", "ContainerUser.linux",
            "LinuxContainerUser.uid", "LinuxContainerUser.gid",
            "LinuxContainerUser.supplemental_groups"] needs [GroupsPolicy]
        "The status tells user, group and all other groups of the process." => status_tells();
    "strict-status" Linux Api ["ContainerStatus", "LinuxContainerUser.supplemental_groups"]
        needs [GroupsPolicy]
        "With policy Strict the status tells no group of the image." => strict_status();
    "exec-has-the-same" Linux Kubelet ["ExecSync"]
        "An exec has the container's user and groups." => exec_same();
    "groups-of-root" Linux Api ["CreateContainer",
            "LinuxContainerSecurityContext.supplemental_groups"]
        "Root has the supplemental groups too." => of_root();
}

const IDS: &str = "echo $(id -u) $(id -g); id -G";

async fn run(
    c: &Context,
    image: Option<String>,
    change: impl FnOnce(&mut LinuxContainerSecurityContext),
) -> Result<Ran, Stop> {
    let pod = c.pod().await?;
    let mut config = c.script(IDS);
    if let Some(image) = image {
        config.image.get_or_insert_default().image = image;
    }
    change(security(&mut config));
    let ran = c.run(&pod, &config).await?;
    if ran.status.exit_code != 0 {
        return Err(Stop::failed(format!("it ended with {}", ran.status.exit_code)));
    }
    Ok(ran)
}

fn first(ran: &Ran) -> String {
    ran.text().lines().next().unwrap_or_default().to_owned()
}

fn groups(ran: &Ran) -> BTreeSet<i64> {
    let text = ran.text();
    let line = text.lines().nth(1).unwrap_or_default();
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

async fn ids(c: &Context, change: fn(&mut LinuxContainerSecurityContext), wanted: &str) -> Verdict {
    same!("user and group", first(&run(c, None, change).await?), wanted);
    Ok(())
}

async fn unknown_name(c: &Context) -> Verdict {
    let ran = run(c, None, |s| s.run_as_username = "nobody-knows".to_owned()).await;
    ensure!(ran.is_err(), "it runs");
    Ok(())
}

async fn image_with(c: &Context, user: &str) -> Result<String, Stop> {
    let image = c.shared.busybox.clone().set("User", json!(user)).unique(&c.mark);
    let reference = format!("{}:1", c.offer(&image, "user", "1").await?);
    c.pull(&reference).await?;
    Ok(reference)
}

async fn of_image(c: &Context, user: &str, wanted: &str) -> Verdict {
    let image = image_with(c, user).await?;
    same!("user and group", first(&run(c, Some(image), |_| {}).await?), wanted);
    Ok(())
}

async fn request_wins(c: &Context) -> Verdict {
    let image = image_with(c, "worker").await?;
    let ran = run(c, Some(image), |s| s.run_as_user = Some(Int64Value { value: 0 })).await?;
    same!("user and group", first(&ran), "0 0");
    Ok(())
}

fn as_worker(s: &mut LinuxContainerSecurityContext, groups: &[i64]) {
    s.run_as_user = Some(Int64Value { value: 1000 });
    s.supplemental_groups = groups.to_vec();
}

async fn added(c: &Context) -> Verdict {
    let ran = run(c, None, |s| as_worker(s, &[5000, 6000])).await?;
    let found = groups(&ran);
    ensure!(found.is_superset(&BTreeSet::from([1000, 5000, 6000])), "they are {found:?}");
    Ok(())
}

async fn merged(c: &Context) -> Verdict {
    let ran = run(c, None, |s| as_worker(s, &[5000])).await?;
    same!("the groups", groups(&ran), BTreeSet::from([1000, 2000, 5000]));
    Ok(())
}

fn strictly(s: &mut LinuxContainerSecurityContext) {
    as_worker(s, &[5000]);
    s.supplemental_groups_policy = SupplementalGroupsPolicy::Strict.into();
}

async fn strict(c: &Context) -> Verdict {
    let ran = run(c, None, strictly).await?;
    same!("the groups", groups(&ran), BTreeSet::from([1000, 5000]));
    Ok(())
}

fn told(ran: &Ran) -> Result<LinuxContainerUser, Stop> {
    let user = ran.status.user.clone().and_then(|user| user.linux);
    user.ok_or_else(|| Stop::failed("the status has no user"))
}

async fn status_tells(c: &Context) -> Verdict {
    let ran = run(c, None, |s| as_worker(s, &[5000])).await?;
    let user = told(&ran)?;
    same!("user and group", (user.uid, user.gid), (1000, 1000));
    let mut all = BTreeSet::from_iter(user.supplemental_groups);
    all.insert(user.gid);
    same!("the groups", all, groups(&ran));
    Ok(())
}

async fn strict_status(c: &Context) -> Verdict {
    let user = told(&run(c, None, strictly).await?)?;
    ensure!(!user.supplemental_groups.contains(&2000), "they are {:?}", user.supplemental_groups);
    ensure!(user.supplemental_groups.contains(&5000), "they are {:?}", user.supplemental_groups);
    Ok(())
}

async fn exec_same(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    as_worker(security(&mut config), &[5000]);
    let id = c.launch(&pod, &config).await?;
    let text = c.exec(&id, &["sh", "-c", IDS]).await?;
    let mut lines = text.lines();
    same!("user and group", lines.next().unwrap_or_default(), "1000 1000");
    let found: BTreeSet<&str> = lines.next().unwrap_or_default().split(' ').collect();
    same!("the groups", found, BTreeSet::from(["1000", "2000", "5000"]));
    Ok(())
}

async fn of_root(c: &Context) -> Verdict {
    let ran = run(c, None, |s| s.supplemental_groups = vec![5000]).await?;
    ensure!(groups(&ran).contains(&5000), "they are {:?}", groups(&ran));
    Ok(())
}
