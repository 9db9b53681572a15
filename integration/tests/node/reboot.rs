//! The machine goes down: what was in memory is gone, what was on the disk is there.

use std::time::Duration;

use cri_api::v1::{
    ListContainersRequest, ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest,
};
use tonic::Code;

use crate::around::around;
use crate::network::CONFLIST;

#[tokio::test]
async fn after_a_reboot_images_are_whole_and_what_pods_had_on_the_disk_is_cleared_away() {
    let mut around = around(|setup| setup.cni(CONFLIST)).await;
    let pod = testkit::pod(&around.daemon, "pod");
    let id = around.daemon.run_pod(&pod, "").await.unwrap();
    let sleeper = testkit::sleeper("main", &around.image);
    let old = around.daemon.launch(&id, &pod, &sleeper).await.unwrap();
    around.daemon.exec(&old, &["sh", "-c", "echo much > /file"]).await.unwrap();
    let directory = around.daemon.directory().to_owned();
    let names = |place: &str| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(directory.join(place)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let is_lease = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("10."))
    };
    let leases = || names("cni/data/tests").into_iter().filter(is_lease).collect::<Vec<_>>();
    let upper = directory.join("root/containers").join(&old).join("upper");
    assert!(upper.join("file").exists(), "{}", upper.display());
    assert_eq!(leases().len(), 1);

    around.daemon.lose_all_but_the_disk();
    // Half a layer, of a pull that the reboot has cut off.
    let staging = directory.join("root/staging");
    assert!(staging.is_dir(), "{:?}", names("root"));
    std::fs::create_dir(staging.join("half")).unwrap();
    for lease in leases() {
        // From before this machine was started.
        let file = std::fs::File::options().write(true).open(lease).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    }
    around.daemon.start().await;

    let daemon = &around.daemon;
    let pods = daemon.runtime().list_pod_sandbox(ListPodSandboxRequest { filter: None }).await;
    assert!(pods.unwrap().into_inner().items.is_empty());
    let all = daemon.runtime().list_containers(ListContainersRequest { filter: None }).await;
    assert!(all.unwrap().into_inner().containers.is_empty());
    assert_eq!(daemon.pod_status(&id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(daemon.status(&old).await.unwrap_err().code(), Code::NotFound);
    // What a kubelet does with the pods that it remembers.
    let stop = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
    daemon.runtime().stop_pod_sandbox(stop).await.unwrap();
    let remove = RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
    daemon.runtime().remove_pod_sandbox(remove).await.unwrap();
    let left = || (leases().len(), names("root/staging").len());
    testkit::until("leftovers are gone", Duration::from_secs(20), async || {
        (left() == (0, 0) && !upper.exists()).then_some(())
    })
    .await;

    // The image is there without a registry, and the pod can be had again.
    drop(around.registry);
    let daemon = &around.daemon;
    let new = daemon.run_pod(&pod, "").await.unwrap();
    assert_ne!(new, id);
    let container = testkit::container("main", &around.image, &["cat", "/etc/group"]);
    let (status, said) = daemon.run_to_end(&new, &pod, &container).await;
    assert_eq!(status.exit_code, 0, "{said}");
}
