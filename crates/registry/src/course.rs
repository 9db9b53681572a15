//! One request's way over the hosts of a registry.

use std::sync::Arc;

use crate::config::Limits;
use crate::endpoint::Endpoint;
use crate::error::{Cause, Phase, RegistryError};
use crate::schedule::{Bounds, Failure, Schedule, Step};

/// A [`Schedule`] with real hosts and real waits.
#[derive(Debug)]
pub(crate) struct Course {
    endpoints: Vec<Arc<Endpoint>>,
    schedule: Schedule,
    current: usize,
    reference: String,
    registry: String,
    phase: Phase,
}

impl Course {
    /// A course over `endpoints`, in this order.
    pub(crate) fn new(
        endpoints: Vec<Arc<Endpoint>>,
        limits: &Limits,
        reference: &oci_image::Reference,
        phase: Phase,
    ) -> Self {
        let bounds = Bounds {
            rounds: limits.tries.max(1),
            backoff: limits.backoff,
            max_backoff: limits.max_backoff,
        };
        let own = endpoints.iter().position(|e| e.own);
        Self {
            schedule: Schedule::new(bounds, endpoints.len(), own),
            endpoints,
            current: 0,
            reference: reference.to_string(),
            registry: reference.registry().to_owned(),
            phase,
        }
    }

    /// The next host to try, after the wait that lies before it.
    pub(crate) async fn next(&mut self) -> Option<Arc<Endpoint>> {
        loop {
            // Without randomness, waits are only less spread.
            match self.schedule.step(getrandom::u32().unwrap_or(u32::MAX)) {
                Step::Try(index) => {
                    self.current = index;
                    return self.endpoints.get(index).cloned();
                }
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::GiveUp => return None,
            }
        }
    }

    /// The host that [`Course::next`] gave last failed.
    pub(crate) fn failed(&mut self, failure: impl Into<Failure>) {
        let failure = failure.into();
        if let Some(endpoint) = self.endpoints.get(self.current) {
            tracing::debug!(
                reference = self.reference,
                host = endpoint.host,
                phase = %self.phase,
                "failed: {}",
                failure.cause
            );
            self.schedule.failed(self.current, failure);
        }
    }

    /// The host that [`Course::next`] gave last has what was asked for.
    pub(crate) fn gave(&mut self) {
        self.schedule.gave(self.current);
    }

    /// Much came from the host that [`Course::next`] gave last.
    pub(crate) fn progressed(&mut self) {
        self.schedule.progressed(self.current);
    }

    /// The host that [`Course::next`] gave last.
    pub(crate) fn host(&self) -> &str {
        self.endpoints.get(self.current).map_or(&self.registry, |e| &e.host)
    }

    /// The error once nothing is left to try.
    pub(crate) fn error(&self) -> RegistryError {
        let Some((index, cause)) = self.schedule.verdict() else {
            return self.error_of(Cause::NoHost);
        };
        let say = |(i, c): (usize, &Cause)| format!("{}: {c}", self.endpoints[i].host);
        RegistryError {
            host: self.endpoints[index].host.clone(),
            others: self.schedule.others().map(say).collect(),
            ..self.error_of(cause.clone())
        }
    }

    /// An error at the current host that ends the course.
    pub(crate) fn error_of(&self, cause: Cause) -> RegistryError {
        RegistryError {
            reference: self.reference.clone(),
            host: self.host().to_owned(),
            phase: self.phase,
            cause,
            tries: self.schedule.asked(),
            others: Vec::new(),
        }
    }
}
