//! Commands and arguments: the request's and the image's, combined as Kubernetes says.

use serde_json::json;

use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::Context;
use crate::images::Image;

cases! { "command":
    "of-the-image" Program Oci ["CreateContainer", "ContainerConfig.command"]
        "Without command and arguments the image's Entrypoint and Cmd run." =>
        combined(&[], &[], "entry cmd\n");
    "args-replace-cmd" Program Kubelet ["CreateContainer", "ContainerConfig.args"]
        "Arguments alone replace Cmd and keep Entrypoint." => combined(&[], &["args"], "entry args\n");
    "command-replaces-both" Program Kubelet ["CreateContainer", "ContainerConfig.command"]
        "A command alone replaces Entrypoint and Cmd." =>
        combined(&["echo", "command"], &[], "command\n");
    "both-replace-both" Program Kubelet ["CreateContainer", "ContainerConfig.command",
            "ContainerConfig.args"]
        "Command and arguments together run as they are." =>
        combined(&["echo", "command"], &["args"], "command args\n");
    "cmd-alone" Program Oci ["CreateContainer"]
        "An image without Entrypoint runs its Cmd." => cmd_alone();
    "nothing-to-run" Program Oci ["CreateContainer", "StartContainer"]
        "With nothing to run, the container is refused or cannot be started." => nothing();
    "not-a-shell" Program Api ["CreateContainer", "ContainerConfig.command"]
        "No shell takes the words apart: spaces, quotes, dollars and stars stay." => verbatim();
    "empty-argument" Program Api ["CreateContainer", "ContainerConfig.args"]
        "An empty argument is an argument." => empty_argument();
    "many-arguments" Program Api ["CreateContainer", "ContainerConfig.args"]
        "A thousand arguments arrive in their order." => many();
    "found-in-path" Linux Oci ["StartContainer", "ContainerConfig.command"]
        "A program without a slash is looked up in the PATH of the container." => in_path();
}

fn spoken(c: &Context) -> Image {
    let image = c.shared.busybox.clone().unique(&c.mark);
    image.set("Entrypoint", json!(["echo", "entry"])).set("Cmd", json!(["cmd"]))
}

async fn run(c: &Context, image: &Image, command: &[&str], args: &[&str]) -> Result<String, Stop> {
    let reference = format!("{}:1", c.offer(image, "command", "1").await?);
    c.pull(&reference).await?;
    let pod = c.pod().await?;
    let mut config = c.container(command);
    config.image.get_or_insert_default().image = reference;
    config.args = args.iter().map(|&arg| arg.to_owned()).collect();
    c.output(&pod, &config).await
}

async fn combined(c: &Context, command: &[&str], args: &[&str], wanted: &str) -> Verdict {
    same!("what it writes", run(c, &spoken(c), command, args).await?, wanted);
    Ok(())
}

async fn cmd_alone(c: &Context) -> Verdict {
    let image = c.shared.busybox.clone().unique(&c.mark).set("Cmd", json!(["echo", "only"]));
    same!("what it writes", run(c, &image, &[], &[]).await?, "only\n");
    Ok(())
}

async fn nothing(c: &Context) -> Verdict {
    let image = c.shared.busybox.clone().unique(&c.mark).set("Cmd", json!([]));
    ensure!(run(c, &image, &[], &[]).await.is_err(), "it runs");
    Ok(())
}

async fn verbatim(c: &Context) -> Verdict {
    let words = "a  b 'c' \"d\" $HOME * ; echo e";
    let pod = c.pod().await?;
    same!(
        "what it writes",
        c.output(&pod, &c.container(&["echo", words])).await?,
        format!("{words}\n")
    );
    Ok(())
}

async fn empty_argument(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let said = c.output(&pod, &c.container(&["printf", "[%s]", "a", "", "b"])).await?;
    same!("what it writes", said, "[a][][b]");
    Ok(())
}

async fn many(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.container(&["echo"]);
    config.args = (0..1000).map(|n| n.to_string()).collect();
    let wanted = format!("{}\n", config.args.join(" "));
    same!("what it writes", c.output(&pod, &config).await?, wanted);
    Ok(())
}

async fn in_path(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.container(&["echo", "found"]);
    config.envs = vec![crate::shape::variable("PATH", "/nowhere:/bin")];
    same!("what it writes", c.output(&pod, &config).await?, "found\n");
    Ok(())
}
