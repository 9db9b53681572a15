//! A container that writes as fast as it can.

use std::time::{Duration, Instant};

use cri_api::v1::{ContainerState, ContainerStatusRequest, NamespaceMode};

use super::ms;
use crate::cri::Wanted;
use crate::cri::endpoint::Endpoint;
use crate::cri::figures::Figures;
use crate::cri::machine;

const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(300);

pub async fn measure(endpoints: &[Endpoint], wanted: &Wanted, figures: &mut Figures) {
    let mb = wanted.log_mb;
    for _ in 0..ROUNDS {
        for (at, endpoint) in endpoints.iter().enumerate() {
            let (took, used) = write(endpoint, mb).await;
            figures.add(
                &format!("a container logs {mb} MB of short lines"),
                "s",
                at,
                took.as_secs_f64(),
            );
            figures.add("CPU time per MB logged, writer included", "ms", at, ms(used) / mb as f64);
        }
    }
}

/// How long until its end is known, and the CPU time of the machine.
async fn write(endpoint: &Endpoint, mb: usize) -> (Duration, Duration) {
    let script = format!("yes 'a short line of a log' | head -c {mb}000000");
    let config = endpoint.pod(NamespaceMode::Node);
    let id = endpoint.run(&config).await;
    let container_id = endpoint.create(&id, &config, &script).await;
    let (before, began) = (machine::busy(), Instant::now());
    endpoint.start(&container_id).await;
    loop {
        let request = ContainerStatusRequest { container_id: container_id.clone(), verbose: false };
        let status = endpoint.runtime().container_status(request).await;
        let status = status.unwrap_or_else(|e| panic!("{}: {e}", endpoint.name)).into_inner();
        if status.status.is_some_and(|one| one.state() == ContainerState::ContainerExited) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{}: the log does not end", endpoint.name);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let measured = (began.elapsed(), machine::busy().saturating_sub(before));
    endpoint.remove(&id).await;
    // The next one does not wait for this one's pages.
    let _ = std::fs::remove_dir_all(&config.log_directory);
    measured
}
