//! PullProgress.

use std::time::Duration;

use admin_api::v1;
use images::{Images, LayerState, PullProgress};
use tokio::time::{Interval, MissedTickBehavior};
use tonic::Response;

use crate::stream::Streamed;

/// How often progress is looked at: as often as a person can see.
const EVERY: Duration = Duration::from_millis(100);

struct Watch {
    images: Images,
    reference: String,
    /// Whether to wait for a first pull.
    wait: bool,
    timer: Interval,
    last: Option<v1::PullProgressReply>,
}

/// One message at once, then one for each change, until the pulls have ended.
pub(super) fn watch(
    images: Images,
    reference: String,
    wait: bool,
) -> Response<Streamed<v1::PullProgressReply>> {
    let mut timer = tokio::time::interval(EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watch = Watch { images, reference, wait, timer, last: None };
    let stream = futures_util::stream::unfold(watch, |mut watch| async {
        let reply = watch.next().await?;
        Some((Ok(reply), watch))
    });
    Response::new(Box::pin(stream))
}

impl Watch {
    async fn next(&mut self) -> Option<v1::PullProgressReply> {
        loop {
            self.timer.tick().await;
            let pulls = self.images.progress();
            let wanted = pulls.iter().filter(|pull| is_named(&self.reference, &pull.reference));
            let reply = v1::PullProgressReply { pulls: wanted.map(pull).collect() };
            let is_over = reply.pulls.is_empty() && !self.wait;
            if is_over && self.last.as_ref().is_none_or(|last| last.pulls.is_empty()) {
                return None;
            }
            if !reply.pulls.is_empty() {
                self.wait = false;
            }
            if self.last.as_ref() != Some(&reply) {
                self.last = Some(reply.clone());
                return Some(reply);
            }
        }
    }
}

/// Whether `given`, as a user writes it, can mean `reference`, which is written out.
fn is_named(given: &str, reference: &str) -> bool {
    let at_a_boundary = |rest: &str| rest.is_empty() || rest.ends_with('/');
    let ends_with = |name: &str| reference.strip_suffix(name).is_some_and(at_a_boundary);
    given.is_empty() || ends_with(given) || ends_with(&format!("{given}:latest"))
}

fn pull(given: &PullProgress) -> v1::Pull {
    let layers = given.layers.iter().map(|layer| v1::PullLayer {
        digest: layer.digest.to_string(),
        size: layer.size,
        done: layer.received,
        complete: match layer.state {
            LayerState::Present | LayerState::Done => true,
            LayerState::Waiting | LayerState::Fetching => false,
        },
    });
    v1::Pull {
        reference: given.reference.clone(),
        phase: given.phase.to_owned(),
        layers: layers.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_found_by_what_a_user_writes() {
        let whole = "docker.io/library/busybox:latest";
        for (given, found) in [
            ("", true),
            ("busybox", true),
            ("busybox:latest", true),
            ("library/busybox", true),
            (whole, true),
            ("box", false),
            ("busybox:1", false),
        ] {
            assert_eq!(is_named(given, whole), found, "{given}");
        }
    }
}
