//! Environment, working directory, standard input and terminal.

use cri_api::v1::*;
use serde_json::json;

use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::Context;
use crate::shape::variable;

cases! { "environment":
    "of-the-image" Program Oci ["CreateContainer"]
        "The image's variables are set." => has(&[], "FROM_IMAGE=yes");
    "of-the-request" Program Api ["CreateContainer", "ContainerConfig.envs", "KeyValue.key",
            "KeyValue.value"]
        "The request's variables are set." => has(&[("MINE", "a b")], "MINE=a b");
    "request-wins" Program Kubelet ["CreateContainer", "ContainerConfig.envs"]
        "A variable of the request replaces the image's." =>
        has(&[("FROM_IMAGE", "no")], "FROM_IMAGE=no");
    "empty-value" Program Api ["CreateContainer", "KeyValue.value"]
        "A variable may be empty." => has(&[("EMPTY", "")], "EMPTY=");
    "equals-sign" Program Api ["CreateContainer", "KeyValue.value"]
        "A value may have an equals sign." => has(&[("SIGN", "a=b=c")], "SIGN=a=b=c");
    "not-expanded" Program Api ["CreateContainer", "KeyValue.value"]
        "Nothing in a value is expanded." => has(&[("RAW", "$(HOME) $HOME `x`")], "RAW=$(HOME) $HOME `x`");
    "last-wins" Program Kubelet ["CreateContainer", "ContainerConfig.envs"]
        "Of a variable given twice the last counts." => has(&[("TWICE", "1"), ("TWICE", "2")], "TWICE=2");
    "nothing-of-the-node" Linux Kubelet ["CreateContainer"]
        "No variable of the runtime's own environment is in a container." => nothing_else();
    "home" Linux Kubelet ["CreateContainer"]
        "HOME is the user's home in the image." => home();
    "hostname" Linux Kubelet ["CreateContainer", "PodSandboxConfig.hostname"] needs [PodNetwork]
        "HOSTNAME is the pod's host name." => hostname();
    "working-directory" Linux Api ["CreateContainer", "ContainerConfig.working_dir"]
        "The program begins in the working directory that was asked for." => directory("/etc", "/etc\n");
    "working-directory-is-made" Linux Kubelet ["CreateContainer", "ContainerConfig.working_dir"]
        "A working directory that is missing is made." => directory("/made/for/it", "/made/for/it\n");
    "working-directory-of-the-image" Linux Oci ["CreateContainer", "ContainerConfig.working_dir"]
        "Without one in the request, the image's working directory counts." => image_directory();
    "working-directory-is-root" Linux Oci ["CreateContainer", "ContainerConfig.working_dir"]
        "With none at all it is the root." => directory("", "/\n");
    "no-stdin" Program Api ["CreateContainer", "ContainerConfig.stdin"]
        "Without stdin the standard input is empty." => no_stdin();
    "terminal" Linux Api ["CreateContainer", "ContainerConfig.tty"]
        "With tty the standard streams are a terminal." => terminal(true);
    "no-terminal" Linux Api ["CreateContainer", "ContainerConfig.tty"]
        "Without tty they are not." => terminal(false);
    "term" Linux Kubelet ["CreateContainer", "ContainerConfig.tty"]
        "With tty there is a TERM." => term();
    "no-open-descriptors" Linux Linux ["CreateContainer"]
        "A program begins with descriptors 0, 1 and 2 open, and no others." => descriptors();
    "umask" Linux Kubelet ["CreateContainer"]
        "The file mode creation mask is 022." => umask();
    "first-process" Linux Kubelet ["CreateContainer"]
        "In a PID namespace of its own the program is process 1." => first();
    "no-ignored-signals" Linux Linux ["CreateContainer"]
        "A program begins with no signal ignored or blocked." => signals();
}

async fn said(
    c: &Context,
    script: &str,
    change: impl FnOnce(&mut ContainerConfig),
) -> Result<String, Stop> {
    let pod = c.pod().await?;
    let mut config = c.script(script);
    change(&mut config);
    c.output(&pod, &config).await
}

async fn has(c: &Context, variables: &[(&str, &str)], wanted: &str) -> Verdict {
    let envs = variables.iter().map(|(key, value)| variable(key, value)).collect();
    let text = said(c, "env", |config| config.envs = envs).await?;
    let name = wanted.split('=').next().unwrap_or_default();
    let prefix = format!("{name}=");
    let found: Vec<&str> = text.lines().filter(|line| line.starts_with(&prefix)).collect();
    same!("the variable", found, [wanted]);
    Ok(())
}

async fn nothing_else(c: &Context) -> Verdict {
    let text = said(c, "env", |_| {}).await?;
    // What a shell sets by itself, and what every runtime sets.
    let known = ["PATH", "FROM_IMAGE", "HOSTNAME", "HOME", "PWD", "OLDPWD", "SHLVL", "_", "TERM"];
    let others: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split('=').next())
        .filter(|name| !known.contains(name))
        .collect();
    ensure!(others.is_empty(), "there are {others:?}");
    Ok(())
}

async fn home(c: &Context) -> Verdict {
    let text = said(c, "echo $HOME", |config| {
        crate::shape::security(config).run_as_user = Some(Int64Value { value: 1000 });
    });
    same!("HOME", text.await?, "/home/worker\n");
    Ok(())
}

async fn hostname(c: &Context) -> Verdict {
    let pod = c.pod_of(c.networked_config()).await?;
    let config = pod.fit(c.script("env"));
    let text = c.output(&pod, &config).await?;
    ensure!(text.lines().any(|line| line == "HOSTNAME=the-pod"), "it is not in {text}");
    Ok(())
}

async fn directory(c: &Context, path: &str, wanted: &str) -> Verdict {
    let text = said(c, "pwd", |config| config.working_dir = path.to_owned()).await?;
    same!("the directory", text, wanted);
    Ok(())
}

async fn image_directory(c: &Context) -> Verdict {
    let image = c.shared.busybox.clone().set("WorkingDir", json!("/tmp")).unique(&c.mark);
    let reference = format!("{}:1", c.offer(&image, "directory", "1").await?);
    c.pull(&reference).await?;
    let text = said(c, "pwd", |config| {
        config.image.get_or_insert_default().image = reference.clone();
    });
    same!("the directory", text.await?, "/tmp\n");
    Ok(())
}

async fn no_stdin(c: &Context) -> Verdict {
    same!("what cat reads", said(c, "cat; echo end", |_| {}).await?, "end\n");
    Ok(())
}

async fn terminal(c: &Context, tty: bool) -> Verdict {
    let script = "for n in 0 1 2; do test -t $n && echo yes || echo no; done";
    let text = said(c, script, |config| config.tty = tty).await?;
    let answers: Vec<&str> = text.lines().map(str::trim_end).collect();
    same!("being a terminal", answers, if tty { ["yes"; 3] } else { ["no"; 3] });
    Ok(())
}

async fn term(c: &Context) -> Verdict {
    let text = said(c, "echo TERM=$TERM.", |config| config.tty = true).await?;
    ensure!(!text.contains("TERM=."), "it is {text:?}");
    Ok(())
}

async fn descriptors(c: &Context) -> Verdict {
    // 3 is the directory that ls itself has open.
    let text = said(c, "ls /proc/self/fd", |_| {}).await?;
    same!("the descriptors", text.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    Ok(())
}

async fn umask(c: &Context) -> Verdict {
    same!("the mask", said(c, "umask", |_| {}).await?.trim(), "0022");
    Ok(())
}

async fn first(c: &Context) -> Verdict {
    same!("the process id", said(c, "echo $$", |_| {}).await?, "1\n");
    Ok(())
}

async fn signals(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    // Not through a shell, which has its own ideas about signals.
    let config = c.container(&["grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"]);
    let text = c.output(&pod, &config).await?;
    // 32 and 33 are the C library's own, which programs cannot touch through it (signal(7)).
    const OF_THE_LIBRARY: u64 = 0b11 << 31;
    for line in text.lines() {
        let mask = line.split('\t').nth(1).and_then(|mask| u64::from_str_radix(mask, 16).ok());
        ensure!(mask.is_some_and(|mask| mask & !OF_THE_LIBRARY == 0), "it has {text}");
    }
    Ok(())
}
