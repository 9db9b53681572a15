//! The same pod by our own launcher, by runc and by crun: a difference is a bug on one side.

use testkit::{Network, Setup};

use crate::around::around;

fn with_handlers(setup: Setup) -> Setup {
    let crun = testkit::crun(setup.directory());
    let handlers = format!(
        "[handlers.runc]\nkind = \"oci\"\nprogram = \"/usr/sbin/runc\"\n\
         [handlers.crun]\nkind = \"oci\"\nprogram = \"{}\"\n",
        crun.display()
    );
    setup.network(Network::None).toml(&handlers)
}

#[tokio::test]
async fn all_handlers_do_the_same() {
    let around = around(with_handlers).await;
    let daemon = &around.daemon;
    for handler in ["", "runc", "crun"] {
        let name = if handler.is_empty() { "own" } else { handler };
        let mut pod = testkit::pod(daemon, name);
        pod.hostname = "the-pod".to_owned();
        let id = daemon.run_pod(&pod, handler).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(daemon.pod_status(&id).await.unwrap().runtime_handler, handler);

        let script = "hostname; id -u; echo $$; cat /proc/sys/net/ipv4/ip_forward >/dev/null && \
                      grep -E '^(CapEff|Seccomp):' /proc/self/status; ls / | tr '\\n' ' '; exit 3";
        let container = testkit::container("main", &around.image, &["sh", "-c", script]);
        let (status, said) = daemon.run_to_end(&id, &pod, &container).await;
        assert_eq!(status.exit_code, 3, "{name}: {said}");
        let expected = "the-pod\n0\n1\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n";
        assert!(said.starts_with(expected), "{name}: {said}");

        let sleeper = daemon.launch(&id, &pod, &testkit::sleeper("sleeps", &around.image)).await;
        let sleeper = sleeper.unwrap_or_else(|e| panic!("{name}: {e}"));
        let done = daemon.exec(&sleeper, &["sh", "-c", "echo out; echo err >&2; exit 9"]).await;
        let done = done.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((&done.stdout[..], &done.stderr[..]), (&b"out\n"[..], &b"err\n"[..]), "{name}");
        assert_eq!(done.exit_code, 9, "{name}");
        daemon.stop_container(&sleeper, 10).await.unwrap();
        assert_eq!(daemon.status(&sleeper).await.unwrap().exit_code, 0, "{name}");
    }
}
