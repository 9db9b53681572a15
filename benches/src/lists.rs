//! Lists of many containers, with and without statistics.

use std::time::{Duration, Instant};

use cri_api::v1::{ListContainerStatsRequest, ListContainersRequest};
use testkit::Network;

use crate::samples::Samples;

const ROUNDS: usize = 20;
/// Longer than a measurement is kept for.
const PAUSE: Duration = Duration::from_millis(1100);

pub async fn measure(containers: usize) {
    let (daemon, _registry, image) = crate::daemon(Network::None).await;
    let _ = crate::memory::fill(&daemon, &image, containers).await;
    let mut runtime = daemon.runtime();
    let (mut lists, mut stats, mut kept) =
        (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        tokio::time::sleep(PAUSE).await;
        let began = Instant::now();
        let list =
            runtime.list_containers(ListContainersRequest { filter: None }).await.expect("a list");
        lists.add(began.elapsed());
        assert_eq!(list.into_inner().containers.len(), containers);
        for samples in [&mut stats, &mut kept] {
            let began = Instant::now();
            let request = ListContainerStatsRequest { filter: None };
            let list = runtime.list_container_stats(request).await.expect("statistics");
            samples.add(began.elapsed());
            assert_eq!(list.into_inner().stats.len(), containers);
        }
    }
    lists.print(&format!("ListContainers of {containers}"), Some(5.0));
    stats.print(&format!("ListContainerStats of {containers}, measured anew"), Some(50.0));
    kept.print(&format!("ListContainerStats of {containers}, a moment later"), Some(50.0));
}
