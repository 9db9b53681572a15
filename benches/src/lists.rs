//! Lists of many containers, with and without statistics.

use std::time::Instant;

use cri_api::v1::{ListContainerStatsRequest, ListContainersRequest};
use testkit::Network;

use crate::samples::Samples;

const ROUNDS: usize = 20;

pub async fn measure(containers: usize) {
    let (daemon, _registry, image) = crate::daemon(Network::None).await;
    let _ = crate::memory::fill(&daemon, &image, containers).await;
    let mut runtime = daemon.runtime();
    let (mut lists, mut stats) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let list =
            runtime.list_containers(ListContainersRequest { filter: None }).await.expect("a list");
        lists.add(began.elapsed());
        assert_eq!(list.into_inner().containers.len(), containers);
        let began = Instant::now();
        let list = runtime.list_container_stats(ListContainerStatsRequest { filter: None }).await;
        stats.add(began.elapsed());
        assert_eq!(list.expect("statistics").into_inner().stats.len(), containers);
    }
    lists.print(&format!("ListContainers of {containers}"), None);
    stats.print(&format!("ListContainerStats of {containers}"), Some(50.0));
}
