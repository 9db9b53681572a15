//! Devices that vendors describe in files (CDI), and the hooks that they bring.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cri_api::v1::{CdiDevice, ContainerConfig, RemoveContainerRequest};
use serde_json::json;
use testkit::{Network, Setup, until};
use tonic::Code;

use crate::around::{WithPod, around};

/// How long a hook may take that nobody waits for.
const HOOK_WITHIN: Duration = Duration::from_secs(30);

fn directory(of: &Path) -> PathBuf {
    of.join("cdi")
}

fn with_cdi(setup: Setup) -> Setup {
    let dir = directory(setup.directory());
    std::fs::create_dir(&dir).unwrap();
    let text = format!("cdi.spec_dirs = [{:?}, \"/no/such/directory\"]\n", dir.display());
    setup.network(Network::None).toml(&text)
}

async fn with_pod() -> WithPod {
    let around = around(with_cdi).await;
    let pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    let pod_id = around.daemon.run_pod(&pod, "").await.unwrap();
    WithPod { around, pod, pod_id }
}

impl WithPod {
    fn vendor(&self, name: &str, text: &str) {
        std::fs::write(directory(self.daemon().directory()).join(name), text).unwrap();
    }

    fn device_file(&self, name: &str, edits: serde_json::Value) {
        let spec = json!({"cdiVersion": "0.6.0", "kind": "vendor.com/card",
            "devices": [{"name": "0", "containerEdits": edits}]});
        self.vendor(name, &spec.to_string());
    }
}

fn asking(mut container: ContainerConfig, device: &str) -> ContainerConfig {
    container.cdi_devices = vec![CdiDevice { name: device.to_owned() }];
    container
}

#[tokio::test]
async fn devices_of_vendors_come_by_field_and_by_annotation_in_both_languages() {
    let with = with_pod().await;
    let shared = with.daemon().directory().join("driver");
    std::fs::write(&shared, "of the driver\n").unwrap();
    with.device_file(
        "card.json",
        json!({
            "env": ["CARD=0"],
            "deviceNodes": [{"path": "/dev/card0", "hostPath": "/dev/null", "permissions": "rw"}],
            "mounts": [{"hostPath": shared, "containerPath": "/usr/lib/driver", "options": ["ro"]}],
            "additionalGids": [4242],
        }),
    );
    with.vendor(
        "other.yaml",
        "cdiVersion: 0.6.0\nkind: other.org/card\ncontainerEdits:\n  env: ['BRAND=other']\n\
         devices:\n- name: x\n  containerEdits:\n    env: ['OTHER=x']\n",
    );
    let script = "stat -c '%t:%T' /dev/card0; echo gone > /dev/card0 && cat /usr/lib/driver; \
                  echo $CARD $BRAND $OTHER; grep -c 4242 /proc/self/status; \
                  (echo x > /usr/lib/driver) 2>&1";
    let mut container = asking(with.script("both", script), "vendor.com/card=0");
    container.annotations.insert("cdi.k8s.io/plugin".to_owned(), "other.org/card=x".to_owned());
    let (status, said) = with.run(&container).await;
    assert!(said.starts_with("1:3\nof the driver\n0 other x\n1\n"), "{said}");
    assert!(said.contains("Read-only"), "{said}");
    let groups = status.user.unwrap().linux.unwrap().supplemental_groups;
    assert!(groups.contains(&4242), "{groups:?}");
}

#[tokio::test]
async fn unknown_devices_conflicts_and_what_cannot_be_honoured_are_errors_and_a_changed_file_counts()
 {
    let with = with_pod().await;
    let refused = async |name: &str, device: &str| {
        let container = asking(with.script(name, "true"), device);
        with.daemon().create(&with.pod_id, &with.pod, &container).await.unwrap_err()
    };
    let unknown = refused("unknown", "vendor.com/card=0").await;
    assert_eq!(unknown.code(), Code::FailedPrecondition, "{unknown}");
    assert!(unknown.message().contains("vendor.com/card=0 is not known"), "{unknown}");
    let malformed = refused("malformed", "card0").await;
    assert_eq!(malformed.code(), Code::InvalidArgument, "{malformed}");

    with.device_file("a.json", json!({"env": ["FROM=a"]}));
    let said = asking(with.script("known", "echo $FROM"), "vendor.com/card=0");
    assert_eq!(with.output(&said).await, "a\n", "a new file counts at once");
    with.device_file("b.json", json!({"env": ["FROM=b"]}));
    let twice = refused("twice", "vendor.com/card=0").await;
    assert!(twice.message().contains("a.json") && twice.message().contains("b.json"), "{twice}");

    std::fs::remove_file(directory(with.daemon().directory()).join("b.json")).unwrap();
    with.device_file("a.json", json!({"netDevices": [{"hostInterfaceName": "eth9", "name": "n"}]}));
    let cannot = refused("cannot", "vendor.com/card=0").await;
    let names = |error: &tonic::Status, word: &str| {
        let said = error.message();
        let whose =
            said.contains("CDI device vendor.com/card=0 (") && said.contains("/cdi/a.json)");
        assert!(whose && said.contains(word), "{error}");
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    };
    names(&cannot, "netDevices");
    // These are seen only when the container is made.
    for (edits, word) in [
        (json!({"mounts": [{"hostPath": "/no/such", "containerPath": "/acme"}]}), "/no/such"),
        (
            json!({"mounts": [{"hostPath": "/tmp", "containerPath": "/acme", "options": ["bogus"]}]}),
            "\"bogus\"",
        ),
        (json!({"intelRdt": {"closID": "no-such-class"}}), "no-such-class"),
        (json!({"hooks": [{"hookName": "createRuntime", "path": "/bin/false"}]}), "/bin/false"),
        (json!({"deviceNodes": [{"path": "/acme0", "hostPath": "/dev/null"}]}), "/acme0"),
    ] {
        with.device_file("a.json", edits);
        names(&refused("made", "vendor.com/card=0").await, word);
    }
    let mut annotated = with.script("annotated", "true");
    annotated.annotations.insert("cdi.k8s.io/plugin".to_owned(), "card".to_owned());
    let bad = with.daemon().create(&with.pod_id, &with.pod, &annotated).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument, "{bad}");
}

#[tokio::test]
async fn hooks_run_at_their_points_and_the_ones_before_the_start_can_refuse_it() {
    let with = with_pod().await;
    let traces = with.daemon().directory().join("traces");
    std::fs::create_dir(&traces).unwrap();
    let hook = |point: &str, script: &str| {
        json!({"hookName": point, "path": "/bin/sh", "args": ["sh", "-c", script],
            "env": ["PATH=/bin:/usr/bin"]})
    };
    let trace = |point: &str| {
        let file = traces.join(point);
        hook(point, &format!("cat > {0}.new; mv {0}.new {0}", file.display()))
    };
    let edits = json!({"hooks": [
        trace("prestart"), trace("createRuntime"), trace("createContainer"), trace("poststart"), trace("poststop"),
        hook("createRuntime", &format!("readlink /proc/self/ns/mnt > {}/runtime-ns", traces.display())),
        hook("createContainer", &format!("readlink /proc/self/ns/mnt > {}/container-ns", traces.display())),
        hook("startContainer", "cat > /started"),
    ]});
    with.device_file("card.json", edits);
    let script = "cat /started; echo; trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";
    let container = asking(with.script("main", script), "vendor.com/card=0");
    let id = with.daemon().create(&with.pod_id, &with.pod, &container).await.unwrap();
    let read = |point: &str| -> Option<serde_json::Value> {
        serde_json::from_slice(&std::fs::read(traces.join(point)).ok()?).ok()
    };
    for point in ["prestart", "createRuntime", "createContainer"] {
        let state = read(point).unwrap_or_else(|| panic!("{point} has not run"));
        assert_eq!((&state["id"], &state["status"]), (&id.as_str().into(), &"creating".into()));
        let is_inside = state["pid"] == 1;
        assert_eq!(is_inside, point == "createContainer", "its number is the container's: {state}");
    }
    let namespace = |name: &str| std::fs::read_to_string(traces.join(name)).unwrap();
    let ours = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(namespace("runtime-ns").trim(), ours.to_str().unwrap(), "it runs on the host");
    assert_ne!(namespace("container-ns"), namespace("runtime-ns"), "it runs in the container");
    with.daemon().start_container(&id).await.unwrap();
    let ran = async |point: &'static str| {
        until(format!("{point} has run"), HOOK_WITHIN, async || read(point)).await
    };
    assert_eq!(ran("poststart").await["status"], "running");
    until("the container has said its state", HOOK_WITHIN, async || {
        let said = with.daemon().logged(&id).await;
        said.contains("\"status\":\"created\"").then_some(())
    })
    .await;
    with.daemon().stop_container(&id, 10).await.unwrap();
    assert!(read("poststop").is_none(), "it is not gone yet");
    let request = RemoveContainerRequest { container_id: id.clone() };
    with.daemon().runtime().remove_container(request).await.unwrap();
    assert_eq!(ran("poststop").await["status"], "stopped");

    let failing = json!({"hooks": [hook("createRuntime", "echo no such card >&2; exit 3"), trace("poststop")]});
    with.device_file("card.json", failing);
    std::fs::remove_file(traces.join("poststop")).unwrap();
    let container = asking(with.script("failing", "true"), "vendor.com/card=0");
    let refused = with.daemon().create(&with.pod_id, &with.pod, &container).await.unwrap_err();
    assert!(refused.message().contains("no such card"), "{refused}");
    assert!(refused.message().contains("vendor.com/card=0 ("), "{refused}");
    ran("poststop").await;
}
