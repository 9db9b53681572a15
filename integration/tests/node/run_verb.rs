//! `isopod run`: what is typed, what has a name already, and a daemon that goes away meanwhile.

use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::archive::oci_layout;
use testkit::{Compression, Daemon, busybox};

use crate::around::{plain, text, with_input};

/// `isopod run` with these arguments.
fn run(daemon: &Daemon, args: &[&str]) -> Command {
    daemon.cli(&[&["run", "--network", "host"], args].concat())
}

/// The same to its end, with `typed` as all of its input; its exit code and what it printed.
fn typed(daemon: &Daemon, args: &[&str], typed: &str) -> (Option<i32>, String, String) {
    let done = with_input(run(daemon, args), typed.as_bytes());
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[tokio::test]
async fn what_is_typed_reaches_the_container() {
    let around = plain().await;
    let (daemon, image) = (&around.daemon, around.image.as_str());
    let script = "echo $((6 * 7)); exit 3\n";
    let (code, out, err) = typed(daemon, &["-i", "--rm", image, "sh"], script);
    assert_eq!((code, out.as_str()), (Some(3), "42\n"), "{err}");
    // The end of the input is the end of what reads it.
    let (code, out, err) = typed(daemon, &["-i", "--rm", image, "cat"], "one\ntwo");
    assert_eq!((code, out.as_str()), (Some(0), "one\ntwo"), "{err}");
    // With a terminal of the container's.
    let script = "read word; test -t 0 && echo got $word; exit 4";
    let args = ["-i", "-t", "--rm", image, "sh", "-c", script];
    let (code, out, err) = typed(daemon, &args, "it\n");
    assert_eq!(code, Some(4), "{out} {err}");
    assert!(out.contains("got it"), "{out}");
    // Without the option nothing is passed on.
    let (code, out, err) = typed(daemon, &["--rm", image, "cat"], "lost");
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    let pods = daemon.cli(&["pods", "-q"]).output().unwrap();
    assert_eq!(text(&pods.stdout).trim(), "", "all are removed");
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused() {
    let around = plain().await;
    let args = ["-d", "--name", "web", &around.image, "sleep", "1000"];
    let (code, id, err) = typed(&around.daemon, &args, "");
    assert_eq!(code, Some(0), "{err}");
    let (code, _, err) = typed(&around.daemon, &args, "");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(&format!("isopod rmp -f {}", &id[..12])), "{err}");
    // A manifest by that name is another way to ask for it; one that has ended is in nobody's way there.
    let manifest = around.daemon.directory().join("web.yaml");
    let image = &around.image;
    let spec = format!("{{hostNetwork: true, containers: [{{name: c, image: '{image}'}}]}}");
    let pod = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: web}}, spec: {spec}}}");
    std::fs::write(&manifest, pod).unwrap();
    let from_manifest = || {
        let path = manifest.display().to_string();
        around.daemon.cli(&["run", "-d", "-f", &path]).output().unwrap()
    };
    let refused = from_manifest();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stderr).contains(&id[..12]), "{refused:?}");
    let stopped = around.daemon.cli(&["stopp", "web"]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    let beside = from_manifest();
    assert!(beside.status.success(), "{beside:?}");
    for id in [text(&beside.stdout).trim(), id.trim()] {
        let removed = around.daemon.cli(&["rmp", "-f", id]).output().unwrap();
        assert!(removed.status.success(), "{}", text(&removed.stderr));
    }
    let (code, _, err) = typed(&around.daemon, &args, "");
    assert_eq!(code, Some(0), "{err}");
}

#[tokio::test]
async fn a_run_goes_on_while_its_daemon_is_replaced() {
    let mut around = plain().await;
    let script = "echo before; while [ ! -e /shared/go ]; do sleep 0.05; done; echo after; exit 6";
    let shared = around.daemon.directory().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let mut command = run(&around.daemon, &["-v", &volume, &around.image, "sh", "-c", script]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    testkit::until("the container runs", Duration::from_secs(20), async || {
        let listed = around.daemon.cli(&["ps"]).output().unwrap();
        text(&listed.stdout).contains("Running").then_some(())
    })
    .await;
    around.daemon.kill();
    std::fs::write(shared.join("go"), "").unwrap();
    around.daemon.start().await;
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(6), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout), "before\nafter\n");
}

#[tokio::test]
async fn a_directory_with_a_layout_is_loaded_and_run_by_the_beginning_of_its_id() {
    let around = plain().await;
    let daemon = &around.daemon;
    let layout = daemon.directory().join("layout");
    std::fs::create_dir(&layout).unwrap();
    let image = busybox(Compression::Zstd);
    let image = image.set("Cmd", serde_json::json!(["/bin/busybox", "echo", "from a layout"]));
    let archive = daemon.directory().join("layout.tar");
    std::fs::write(&archive, oci_layout(&[(&image, "example.org/layout:1")])).unwrap();
    let unpacked = Command::new("tar").arg("xf").arg(&archive).arg("-C").arg(&layout).status();
    assert!(unpacked.unwrap().success());
    let loaded = daemon.cli(&["load", &layout.display().to_string()]).output().unwrap();
    assert!(loaded.status.success(), "{}", text(&loaded.stderr));
    let id = text(&loaded.stdout)[..12].to_owned();
    let (code, out, err) = typed(daemon, &["--rm", &id], "");
    assert_eq!((code, out.as_str()), (Some(0), "from a layout\n"), "{err}");
    let empty = daemon.directory().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let refused = daemon.cli(&["load", &empty.display().to_string()]).output().unwrap();
    assert!(text(&refused.stderr).contains("oci-layout"), "{}", text(&refused.stderr));
}
