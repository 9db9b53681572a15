//! ExecSync.

use std::time::{Duration, Instant};

use cri_api::v1::*;
use tonic::Code;

use crate::case::{Stop, Verdict, cases, ensure, same, until};
use crate::context::{Context, refused};
use crate::shape::variable;

cases! { "exec-sync":
    "stdout" Program Api ["ExecSync", "ExecSyncRequest.cmd", "ExecSyncResponse.stdout"]
        "Standard output comes back as it was written." => output("echo out", b"out\n", b"", 0);
    "stderr" Program Api ["ExecSync", "ExecSyncResponse.stderr"]
        "Standard error comes back apart." => output("echo err >&2", b"", b"err\n", 0);
    "both" Program Api ["ExecSync", "ExecSyncResponse.stdout", "ExecSyncResponse.stderr"]
        "Both come back, each in its field." =>
        output("echo out; echo err >&2", b"out\n", b"err\n", 0);
    "exit-code" Program Api ["ExecSync", "ExecSyncResponse.exit_code"]
        "The exit code comes back, and is no error of the call." => output("exit 9", b"", b"", 9);
    "output-and-code" Program Api ["ExecSync", "ExecSyncResponse.exit_code"]
        "A command that fails has its output still." => output("echo x; exit 1", b"x\n", b"", 1);
    "exit-255" Program Api ["ExecSync", "ExecSyncResponse.exit_code"]
        "The largest exit code comes back." => output("exit 255", b"", b"", 255);
    "without-newline" Program Api ["ExecSync", "ExecSyncResponse.stdout"]
        "Output without a line break at its end comes back so." => output("printf abc", b"abc", b"", 0);
    "empty" Program Api ["ExecSync"]
        "A command that says nothing gives nothing." => output("true", b"", b"", 0);
    "signal" Linux Api ["ExecSync", "ExecSyncResponse.exit_code"]
        "A command that is killed gives 137." => output("kill -KILL $$", b"", b"", 137);
    "binary" Linux Api ["ExecSync", "ExecSyncResponse.stdout"]
        "Bytes that are no text come back as they are." =>
        output("printf '\\000\\377\\001'", b"\x00\xff\x01", b"", 0);
    "megabyte" Linux Kubelet ["ExecSync", "ExecSyncResponse.stdout"]
        "A mebibyte of output comes back whole." => megabyte();
    "no-shell" Program Api ["ExecSync", "ExecSyncRequest.cmd"]
        "No shell takes the words apart." => no_shell();
    "empty-command" Program Codes ["ExecSync", "ExecSyncRequest.cmd"]
        "An empty command is an error." => empty_command();
    "missing-program" Program Kubelet ["ExecSync"]
        "A program that is not there is an error, or 126 or 127." => missing();
    "no-stdin" Program Api ["ExecSync"]
        "Standard input is empty: a command that reads it ends." => output("cat; echo end", b"end\n", b"", 0);
    "timeout" Program Codes ["ExecSync", "ExecSyncRequest.timeout"]
        "A command that runs past its timeout is DeadlineExceeded." => timeout();
    "timeout-is-kept" Program Kubelet ["ExecSync", "ExecSyncRequest.timeout"]
        "The call ends soon after its timeout." => timeout_is_kept();
    "timeout-kills" Linux Kubelet ["ExecSync", "ExecSyncRequest.timeout"]
        "The command and its children are gone after the timeout." => timeout_kills();
    "within-the-timeout" Program Api ["ExecSync", "ExecSyncRequest.timeout"]
        "A command that ends in time gives its code." => in_time();
    "grandchild-holds-a-pipe" Linux Kubelet ["ExecSync"]
        "A process left behind that holds the output does not keep the call." => grandchild();
    "many-at-once" Program Kubelet ["ExecSync"]
        "Fifty commands at once each get their own output." => many();
    "container-goes-on" Program Api ["ExecSync", "ContainerStatus"]
        "A command that fails does not touch the container." => goes_on();
    "not-logged" Program Kubelet ["ExecSync"]
        "What a command writes is not in the container's log." => not_logged();
    "environment" Program Kubelet ["ExecSync", "ContainerConfig.envs"]
        "A command has the container's environment." => environment();
    "working-directory" Linux Kubelet ["ExecSync", "ContainerConfig.working_dir"]
        "A command has the container's working directory." => directory();
    "same-files" Linux Kubelet ["ExecSync"]
        "A command sees the container's files and processes." => same_files();
    "same-cgroup" Linux Kubelet ["ExecSync"]
        "A command is in the container's cgroups, or in some below them." => same_cgroup();
    "same-capabilities" Linux Kubelet ["ExecSync"]
        "A command has the container's capabilities, filter and no_new_privs." => same_limits();
    "oom-score" Linux Kubelet ["ExecSync", "LinuxContainerResources.oom_score_adj"]
        "A command has the container's oom_score_adj." => oom_score();
    "ends-with-container" Program Kubelet ["ExecSync", "StopContainer"]
        "A command whose container is stopped does not keep the call." => ends_with_container();
}

async fn waiter(c: &Context) -> Result<String, Stop> {
    let pod = c.pod().await?;
    c.launch(&pod, &c.waiter()).await
}

async fn output(c: &Context, script: &str, out: &[u8], err: &[u8], code: i32) -> Verdict {
    let id = waiter(c).await?;
    let done = c.exec_for(&id, &["sh", "-c", script], 20).await?;
    same!("standard output", &done.stdout[..], out);
    same!("standard error", &done.stderr[..], err);
    same!("the code", done.exit_code, code);
    Ok(())
}

async fn megabyte(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let script = "dd if=/dev/zero bs=1024 count=1024 2>/dev/null | tr '\\000' x";
    let done = c.exec_for(&id, &["sh", "-c", script], 30).await?;
    same!("the length", done.stdout.len(), 1 << 20);
    ensure!(done.stdout.iter().all(|byte| *byte == b'x'), "it is not what was written");
    Ok(())
}

async fn no_shell(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    same!("the output", c.exec(&id, &["echo", "a  b; $HOME *"]).await?, "a  b; $HOME *\n");
    Ok(())
}

async fn empty_command(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    ensure!(c.exec_for(&id, &[], 10).await.is_err(), "it succeeds");
    Ok(())
}

async fn missing(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    match c.exec_for(&id, &["/no/such/program"], 10).await {
        Err(status) => ensure!(status.code() != Code::DeadlineExceeded, "it runs out of time"),
        Ok(done) => ensure!([126, 127].contains(&done.exit_code), "the code is {}", done.exit_code),
    }
    Ok(())
}

async fn timeout(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let answer = c.exec_for(&id, &["sh", "-c", "sleep 1000"], 1).await;
    refused(answer, &[Code::DeadlineExceeded]).map(|_| ())
}

async fn timeout_is_kept(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let began = Instant::now();
    let answer = c.exec_for(&id, &["sh", "-c", "sleep 1000"], 1).await;
    let took = began.elapsed();
    ensure!(answer.is_err(), "it succeeds");
    let right = Duration::from_millis(900)..Duration::from_secs(15);
    ensure!(right.contains(&took), "it took {took:?}");
    Ok(())
}

async fn timeout_kills(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let script = "sleep 4321 & sleep 4321";
    ensure!(c.exec_for(&id, &["sh", "-c", script], 1).await.is_err(), "it succeeds");
    until!("they are gone", {
        let list = c.exec(&id, &["ps"]).await?;
        (!list.contains("sleep 4321")).then_some(())
    });
    Ok(())
}

async fn in_time(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    same!("the code", c.exec_for(&id, &["sh", "-c", "sleep 0.2; exit 4"], 20).await?.exit_code, 4);
    Ok(())
}

async fn grandchild(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let began = Instant::now();
    let done = c.exec_for(&id, &["sh", "-c", "sleep 1000 & echo out"], 0).await?;
    same!("the output", &done.stdout[..], b"out\n");
    ensure!(began.elapsed() < Duration::from_secs(30), "it took {:?}", began.elapsed());
    Ok(())
}

async fn many(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let calls = (0..50).map(|number| {
        let id = &id;
        async move { (number, c.exec(id, &["echo", &number.to_string()]).await) }
    });
    for (number, said) in futures_util::future::join_all(calls).await {
        same!("the output", said?, format!("{number}\n"));
    }
    Ok(())
}

async fn goes_on(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let before = c.status(&id).await?;
    c.exec_for(&id, &["sh", "-c", "exit 1"], 10).await?;
    same!("the status", c.status(&id).await?, before);
    Ok(())
}

async fn not_logged(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.script(&crate::shape::waits_and_ends_with(0))).await?;
    c.exec(&id, &["echo", "from-the-exec"]).await?;
    c.stop(&id, 10).await?;
    let log = c.log(&id).await?.text();
    ensure!(!log.contains("from-the-exec"), "the log has it");
    Ok(())
}

async fn environment(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.envs = vec![variable("MINE", "a b")];
    let id = c.launch(&pod, &config).await?;
    let text = c.exec(&id, &["env"]).await?;
    for wanted in ["MINE=a b", "FROM_IMAGE=yes"] {
        ensure!(text.lines().any(|line| line == wanted), "{wanted} is not in {text}");
    }
    Ok(())
}

async fn directory(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.working_dir = "/home".to_owned();
    let id = c.launch(&pod, &config).await?;
    same!("the directory", c.exec(&id, &["pwd"]).await?, "/home\n");
    Ok(())
}

async fn same_files(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let script =
        "echo mark > /tmp/mark; trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";
    let id = c.launch(&pod, &c.script(script)).await?;
    until!("the file is there", {
        let looked = c.exec_for(&id, &["cat", "/tmp/mark"], 10).await?;
        (looked.stdout.as_ref() == b"mark\n").then_some(())
    });
    let first = c.exec(&id, &["sh", "-c", "cat /proc/1/cmdline | tr '\\000' ' '"]).await?;
    ensure!(first.contains("/tmp/mark"), "process 1 is {first}");
    Ok(())
}

async fn same_cgroup(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let script = "cat /proc/1/cgroup; echo --; cat /proc/self/cgroup";
    let text = c.exec(&id, &["sh", "-c", script]).await?;
    let (first, own) = text.split_once("--\n").unwrap_or_default();
    for line in own.lines() {
        let hierarchy = line.rsplit_once(':').map_or(line, |(hierarchy, _)| hierarchy);
        let above = first.lines().find(|above| above.starts_with(&format!("{hierarchy}:")));
        let below = above.is_some_and(|above| line.starts_with(above.trim_end_matches('/')));
        ensure!(below, "{line} is not below {above:?}");
    }
    Ok(())
}

async fn same_limits(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    let context = crate::shape::security(&mut config);
    context.no_new_privs = true;
    let drop_capabilities = vec!["CHOWN".to_owned(), "NET_RAW".to_owned()];
    context.capabilities = Some(Capability { drop_capabilities, ..Default::default() });
    let id = c.launch(&pod, &config).await?;
    let fields = "^(Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp):";
    let of =
        |process| ["grep".into(), "-E".into(), fields.into(), format!("/proc/{process}/status")];
    let mut both = Vec::new();
    for process in ["1", "self"] {
        let command: [String; 4] = of(process);
        both.push(c.exec(&id, &command.each_ref().map(String::as_str)).await?);
    }
    same!("what the command may do", both[1], both[0]);
    Ok(())
}

async fn oom_score(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    crate::shape::resources(&mut config).oom_score_adj = 333;
    let id = c.launch(&pod, &config).await?;
    same!("the score", c.exec(&id, &["cat", "/proc/self/oom_score_adj"]).await?, "333\n");
    Ok(())
}

async fn ends_with_container(c: &Context) -> Verdict {
    let id = waiter(c).await?;
    let began = Instant::now();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        c.stop(&id, 0).await
    };
    let (_answer, stopped) = tokio::join!(c.exec_for(&id, &["sleep", "1000"], 0), stop);
    stopped?;
    ensure!(began.elapsed() < Duration::from_secs(30), "it took {:?}", began.elapsed());
    Ok(())
}
