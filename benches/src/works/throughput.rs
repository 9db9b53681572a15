//! Pods per second, several at once.

use std::time::Instant;

use cri_api::v1::NamespaceMode;
use futures_util::StreamExt as _;

use crate::cri::Wanted;
use crate::cri::endpoint::{Endpoint, SLEEPER};
use crate::cri::figures::Figures;

/// How many at once.
const AT_ONCE: [usize; 3] = [1, 8, 32];
/// Rounds of each.
const ROUNDS: usize = 3;

pub async fn measure(endpoints: &[Endpoint], wanted: &Wanted, figures: &mut Figures) {
    let mut networks = vec![(NamespaceMode::Node, "host network")];
    if wanted.own_network {
        networks.push((NamespaceMode::Pod, "network of its own"));
    }
    for (network, said) in networks {
        for at_once in AT_ONCE {
            for _ in 0..ROUNDS {
                for (at, endpoint) in endpoints.iter().enumerate() {
                    let (up, down) = rate(endpoint, network, wanted.pods, at_once).await;
                    figures.add(&format!("pods up, {at_once} at once, {said}"), "pods/s", at, up);
                    figures.add(
                        &format!("pods down, {at_once} at once, {said}"),
                        "pods/s",
                        at,
                        down,
                    );
                }
            }
        }
    }
}

/// Pods started, and pods removed, in a second.
async fn rate(
    endpoint: &Endpoint,
    network: NamespaceMode,
    pods: usize,
    at_once: usize,
) -> (f64, f64) {
    let began = Instant::now();
    let each = (0..pods).map(|_| Box::pin(endpoint.up(network, SLEEPER)));
    let up: Vec<_> = futures_util::stream::iter(each).buffer_unordered(at_once).collect().await;
    let took = began.elapsed();
    let began = Instant::now();
    let each = up.iter().map(|(pod, _)| endpoint.remove(&pod.id));
    futures_util::stream::iter(each).buffer_unordered(at_once).collect::<Vec<()>>().await;
    let per_second = |took: std::time::Duration| pods as f64 / took.as_secs_f64();
    (per_second(took), per_second(began.elapsed()))
}
