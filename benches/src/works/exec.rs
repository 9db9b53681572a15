//! One more process in a container.

use cri_api::v1::{ExecSyncRequest, NamespaceMode};

use super::{ms, timed};
use crate::cri::Wanted;
use crate::cri::endpoint::{Endpoint, SLEEPER};
use crate::cri::figures::Figures;
use crate::cri::machine;

/// Execs for each round of other work: they are short.
const MORE: usize = 4;

pub async fn measure(endpoints: &[Endpoint], wanted: &Wanted, figures: &mut Figures) {
    let mut pods = Vec::new();
    for endpoint in endpoints {
        pods.push(Box::pin(endpoint.up(NamespaceMode::Node, SLEEPER)).await.0);
    }
    for _ in 0..wanted.rounds * MORE {
        for (at, endpoint) in endpoints.iter().enumerate() {
            let took = exec(endpoint, &pods[at].container).await;
            figures.took("ExecSync of true", at, took);
        }
    }
    for (at, endpoint) in endpoints.iter().enumerate() {
        let before = machine::busy();
        for _ in 0..wanted.rounds * MORE {
            exec(endpoint, &pods[at].container).await;
        }
        let used = ms(machine::busy().saturating_sub(before));
        figures.add("CPU time per exec", "ms", at, used / (wanted.rounds * MORE) as f64);
        endpoint.remove(&pods[at].id).await;
    }
}

async fn exec(endpoint: &Endpoint, container_id: &str) -> std::time::Duration {
    let request = ExecSyncRequest {
        container_id: container_id.to_owned(),
        cmd: vec!["true".to_owned()],
        timeout: 30,
    };
    let (answer, took) = timed(endpoint.runtime().exec_sync(request)).await;
    assert_eq!(answer.into_inner().exit_code, 0, "{}", endpoint.name);
    took
}
