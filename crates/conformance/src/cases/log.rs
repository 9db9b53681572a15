//! Container logs: their format, their whole, and what happens when they are moved away.

use cri_api::v1::*;
use cri_log::{MAX_CONTENT, Stream, Tag};
use tokio::io::AsyncWriteExt as _;

use super::sandbox::now;
use crate::case::{Stop, Verdict, cases, ensure, same, until};
use crate::context::{Context, Pod};
use crate::logs::Log;
use crate::stream::{Wire, attached};

cases! { "log":
    "stdout" Program Logs ["ContainerConfig", "ContainerConfig.log_path"]
        "Standard output is logged as stdout." => stream("echo words", Stream::Stdout);
    "stderr" Program Logs ["ContainerConfig", "ContainerConfig.log_path"]
        "Standard error is logged as stderr." => stream("echo words >&2", Stream::Stderr);
    "one-line" Program Logs ["ContainerConfig"]
        "A line is one record with the tag F." => one_line();
    "many-lines" Program Logs ["ContainerConfig"]
        "A thousand lines are a thousand records, in their order." => many_lines();
    "empty-line" Program Logs ["ContainerConfig"]
        "An empty line is a record." => empty_line();
    "no-newline" Program Logs ["ContainerConfig"]
        "What is said last without a line break is there too." => no_newline();
    "long-line" Program Logs ["ContainerConfig"]
        "A line of 40,000 bytes is cut into pieces with the tag P, the last with F." => long_line();
    "piece-length" Program Logs ["ContainerConfig"]
        "No record holds more than 16 KiB of a line." => piece_length();
    "exact-length" Program Logs ["ContainerConfig"]
        "A line of exactly 16 KiB comes back as it was." => exact_length();
    "spaces-stay" Program Logs ["ContainerConfig"]
        "Spaces at both ends of a line stay." => spaces();
    "bytes-stay" Linux Logs ["ContainerConfig"]
        "Bytes that are no text stay as they are." => bytes();
    "carriage-return-stays" Linux Logs ["ContainerConfig"]
        "A carriage return is a byte like any other." => carriage_return();
    "looks-like-a-record" Program Logs ["ContainerConfig"]
        "A line that looks like a record is only content." => disguised();
    "times-are-true" Program Logs ["ContainerConfig"]
        "The time of a record lies within the container's life." => times();
    "times-go-on" Program Logs ["ContainerConfig"]
        "Times of one stream never go back." => times_go_on();
    "live" Program Kubelet ["ContainerConfig"]
        "A line can be read while the container runs." => live();
    "terminal" Linux Logs ["ContainerConfig", "ContainerConfig.tty"]
        "With a terminal all is logged as stdout." => terminal();
    "kept-after-the-end" Program Kubelet ["ContainerStatus", "ContainerStatus.log_path"]
        "When a container is EXITED, its log is whole." => whole_at_the_end();
    "same-path-appends" Linux Kubelet ["CreateContainer", "ContainerConfig.log_path"]
        "What stands in the file already stays." => appends();
    "subdirectory" Program Kubelet ["CreateContainer", "ContainerConfig.log_path"]
        "A log path with a directory works: the kubelet makes it." => subdirectory();
    "reopen" Program Api ["ReopenContainerLog", "ReopenContainerLogRequest.container_id"]
        "After the file was moved away, the log goes on in a new one at its path." => reopen();
    "reopen-loses-nothing" Program Api ["ReopenContainerLog"]
        "No line is lost or written twice over several moves." => reopen_many();
    "reopen-unmoved" Program Api ["ReopenContainerLog"]
        "Reopening a file that was not moved goes on in it." => reopen_unmoved();
    "deleted-file" Linux Kubelet ["ReopenContainerLog"]
        "A log whose file was deleted is made anew by a reopening." => deleted();
    "without-path" Program Api ["CreateContainer", "ContainerConfig.log_path"]
        "A container without a log path runs." => without_path();
    "fast" Linux Kubelet ["ContainerConfig"]
        "Fifty thousand lines written at once are all there." => fast();
}

async fn logged(c: &Context, script: &str) -> Result<Log, Stop> {
    let pod = c.pod().await?;
    Ok(c.run(&pod, &c.script(script)).await?.log)
}

async fn stream(c: &Context, script: &str, of: Stream) -> Verdict {
    let log = logged(c, script).await?;
    same!("the log", log.stream(of), "words\n");
    same!("the number of records", log.records().len(), 1);
    Ok(())
}

async fn one_line(c: &Context) -> Verdict {
    let log = logged(c, "echo one").await?;
    let found: Vec<_> = log.records().iter().map(|r| (r.tag, r.content.to_vec())).collect();
    same!("the records", found, [(Tag::Full, b"one".to_vec())]);
    Ok(())
}

async fn many_lines(c: &Context) -> Verdict {
    let log = logged(c, "seq 1 1000").await?;
    let wanted: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    same!("the log", log.text(), wanted);
    ensure!(log.records().iter().all(|record| record.tag == Tag::Full), "some are pieces");
    Ok(())
}

async fn empty_line(c: &Context) -> Verdict {
    same!("the log", logged(c, "echo; echo a; echo").await?.text(), "\na\n\n");
    Ok(())
}

async fn no_newline(c: &Context) -> Verdict {
    let log = logged(c, "printf end").await?;
    let found: Vec<_> = log.records().iter().map(|r| r.content.to_vec()).collect();
    same!("the content", found, [b"end".to_vec()]);
    Ok(())
}

async fn long_line(c: &Context) -> Verdict {
    let log = logged(c, "printf '%40000d\\n' 7; echo next").await?;
    let wanted = format!("{:>40000}\nnext\n", 7);
    ensure!(log.text() == wanted, "{} bytes are there, not {}", log.text().len(), wanted.len());
    let tags: Vec<Tag> = log.records().iter().map(|record| record.tag).collect();
    let (last, pieces) = tags[..tags.len() - 1].split_last().unwrap_or((&Tag::Partial, &[]));
    ensure!(*last == Tag::Full && pieces.len() >= 2, "the tags are {tags:?}");
    ensure!(pieces.iter().all(|tag| *tag == Tag::Partial), "the tags are {tags:?}");
    Ok(())
}

async fn piece_length(c: &Context) -> Verdict {
    let log = logged(c, "printf '%100000d\\n' 7").await?;
    let longest = log.records().iter().map(|record| record.content.len()).max();
    ensure!(longest.is_some_and(|longest| longest <= MAX_CONTENT), "it is {longest:?}");
    Ok(())
}

async fn exact_length(c: &Context) -> Verdict {
    let log = logged(c, &format!("printf '%{MAX_CONTENT}d\\n' 7; echo x")).await?;
    let wanted = format!("{:>MAX_CONTENT$}\nx\n", 7);
    ensure!(log.text() == wanted, "{} bytes are there, not {}", log.text().len(), wanted.len());
    Ok(())
}

async fn spaces(c: &Context) -> Verdict {
    same!("the log", logged(c, "echo '  two  '").await?.text(), "  two  \n");
    Ok(())
}

async fn bytes(c: &Context) -> Verdict {
    let log = logged(c, "printf '\\377\\001\\000\\033[1m\\n'").await?;
    same!("the bytes", log.written(), b"\xff\x01\x00\x1b[1m\n".to_vec());
    Ok(())
}

async fn carriage_return(c: &Context) -> Verdict {
    same!("the log", logged(c, "printf 'a\\rb\\r\\n'").await?.text(), "a\rb\r\n");
    Ok(())
}

async fn disguised(c: &Context) -> Verdict {
    let line = "2016-10-06T00:17:09.669794202Z stderr P not me";
    let log = logged(c, &format!("echo '{line}'")).await?;
    same!("the log of stdout", log.stream(Stream::Stdout), format!("{line}\n"));
    Ok(())
}

fn nanoseconds(time: cri_log::Time) -> i64 {
    time.seconds() * 1_000_000_000 + i64::from(time.nanoseconds())
}

async fn times(c: &Context) -> Verdict {
    let before = now();
    let log = logged(c, "echo x").await?;
    let after = now();
    for record in log.records() {
        let at = nanoseconds(record.time);
        ensure!((before..=after).contains(&at), "{} is not now", record.time);
    }
    Ok(())
}

async fn times_go_on(c: &Context) -> Verdict {
    let log = logged(c, "seq 1 200").await?;
    let times: Vec<String> = log.records().iter().map(|record| record.time.to_string()).collect();
    ensure!(times.is_sorted(), "they do");
    Ok(())
}

async fn live(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    until!("the line is there", { (c.log(&id).await?.text() == "ready\n").then_some(()) });
    same!("the state", c.status(&id).await?.state(), ContainerState::ContainerRunning);
    Ok(())
}

async fn terminal(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("echo out; echo err >&2");
    config.tty = true;
    let log = c.run(&pod, &config).await?.log;
    same!("the log of stdout", log.stream(Stream::Stdout).replace('\r', ""), "out\nerr\n");
    same!("the log of stderr", log.stream(Stream::Stderr), "");
    Ok(())
}

async fn whole_at_the_end(c: &Context) -> Verdict {
    for _ in 0..3 {
        let log = logged(c, "seq 1 3000").await?;
        same!("the number of lines", log.records().len(), 3000);
    }
    Ok(())
}

async fn appends(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let config = c.script("echo new");
    let path = format!("{}/{}", pod.config.log_directory, config.log_path);
    std::fs::write(&path, "2016-10-06T00:17:09.669794202Z stdout F old\n")?;
    same!("the log", c.run(&pod, &config).await?.text(), "old\nnew\n");
    Ok(())
}

async fn subdirectory(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("echo words");
    config.log_path = "main/0.log".to_owned();
    std::fs::create_dir_all(format!("{}/main", pod.config.log_directory))?;
    same!("the log", c.run(&pod, &config).await?.text(), "words\n");
    Ok(())
}

/// A container that logs what it is sent.
async fn echo(c: &Context) -> Result<(Pod, String), Stop> {
    let pod = c.pod().await?;
    let mut config = c.script("cat");
    (config.stdin, config.stdin_once) = (true, true);
    let id = c.launch(&pod, &config).await?;
    Ok((pod, id))
}

async fn move_away(c: &Context, id: &str, to: &str) -> Result<(), Stop> {
    let path = c.status(id).await?.log_path;
    std::fs::rename(&path, format!("{path}.{to}"))?;
    Ok(reopen_call(c, id).await?)
}

async fn reopen_call(c: &Context, id: &str) -> Result<(), tonic::Status> {
    let request = ReopenContainerLogRequest { container_id: id.to_owned() };
    c.rpc.reopen_container_log(request).await.map(drop)
}

async fn reopen(c: &Context) -> Verdict {
    let (_pod, id) = echo(c).await?;
    let mut session = attached(c, &id, Wire::Spdy).await?;
    let mut stdin = session.stdin.take().ok_or_else(|| Stop::failed("there is no stdin"))?;
    stdin.write_all(b"one\n").await?;
    stdin.flush().await?;
    until!("the first line is there", (c.log(&id).await?.text() == "one\n").then_some(()));
    move_away(c, &id, "1").await?;
    stdin.write_all(b"two\n").await?;
    stdin.shutdown().await?;
    let status = c.ended(&id).await?;
    let old = Log::read(format!("{}.1", status.log_path).as_ref())?;
    same!("the old file", old.text(), "one\n");
    same!("the new file", c.log(&id).await?.text(), "two\n");
    Ok(())
}

async fn reopen_many(c: &Context) -> Verdict {
    let (_pod, id) = echo(c).await?;
    let mut session = attached(c, &id, Wire::Spdy).await?;
    let mut stdin = session.stdin.take().ok_or_else(|| Stop::failed("there is no stdin"))?;
    let mut wanted = String::new();
    for round in 0..5 {
        let lines: String = (0..100).map(|n| format!("{round}-{n}\n")).collect();
        stdin.write_all(lines.as_bytes()).await?;
        stdin.flush().await?;
        wanted.push_str(&lines);
        // In the middle of things: some of the lines are still on their way.
        move_away(c, &id, &round.to_string()).await?;
    }
    stdin.shutdown().await?;
    let path = c.ended(&id).await?.log_path;
    let mut found = String::new();
    for round in 0..5 {
        found.push_str(&Log::read(format!("{path}.{round}").as_ref())?.text());
    }
    found.push_str(&Log::read(path.as_ref())?.text());
    ensure!(found == wanted, "{} bytes are there, not {}", found.len(), wanted.len());
    Ok(())
}

async fn reopen_unmoved(c: &Context) -> Verdict {
    let (_pod, id) = echo(c).await?;
    let mut session = attached(c, &id, Wire::Spdy).await?;
    let mut stdin = session.stdin.take().ok_or_else(|| Stop::failed("there is no stdin"))?;
    stdin.write_all(b"one\n").await?;
    stdin.flush().await?;
    until!("the first line is there", (c.log(&id).await?.text() == "one\n").then_some(()));
    reopen_call(c, &id).await?;
    stdin.write_all(b"two\n").await?;
    stdin.shutdown().await?;
    c.ended(&id).await?;
    same!("the log", c.log(&id).await?.text(), "one\ntwo\n");
    Ok(())
}

async fn deleted(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    let path = c.status(&id).await?.log_path;
    until!("the file is there", std::path::Path::new(&path).exists().then_some(()));
    std::fs::remove_file(&path)?;
    reopen_call(c, &id).await?;
    ensure!(std::path::Path::new(&path).exists(), "there is no new file");
    Ok(())
}

async fn without_path(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("echo x; exit 3");
    config.log_path.clear();
    let id = c.launch(&pod, &config).await?;
    same!("the code", c.ended(&id).await?.exit_code, 3);
    Ok(())
}

async fn fast(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.script("seq 1 50000")).await?;
    same!("the code", c.ended(&id).await?.exit_code, 0);
    // A runtime may write the last of them when it has told the end already.
    let log = until!("the last line is there", {
        let log = c.log(&id).await?;
        log.text().ends_with("\n50000\n").then_some(log)
    });
    let records = log.records();
    same!("the number of lines", records.len(), 50_000);
    for (index, record) in records.iter().enumerate() {
        same!("a line", record.content, (index + 1).to_string().as_bytes());
    }
    Ok(())
}
