//! What a reader of metrics sees.

use std::sync::Arc;

use super::Metrics;
use super::monitors::Monitors;
use crate::daemon::audit::AuditLog;
use crate::daemon::traces::Traces;
use crate::daemon::wiring::Parts;

/// What is counted, and where the rest is looked up. Clones are the same.
#[derive(Debug, Clone)]
pub struct View {
    metrics: Arc<Metrics>,
    parts: Parts,
    audit: Option<Arc<AuditLog>>,
    traces: Option<Arc<Traces>>,
    monitors: Arc<Monitors>,
}

impl View {
    /// Of a daemon that has these parts.
    pub fn new(
        metrics: Arc<Metrics>,
        parts: Parts,
        audit: Option<Arc<AuditLog>>,
        traces: Option<Arc<Traces>>,
    ) -> Self {
        Self { metrics, parts, audit, traces, monitors: Arc::default() }
    }

    /// What is counted.
    pub fn counted(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Everything, in Prometheus' text format (0.0.4). Asks the monitors, within a bound.
    pub async fn text(&self) -> String {
        let now = &self.metrics.now;
        now.logs(&self.parts.pods.log_totals().await);
        now.monitors(&self.monitors.memory(&self.parts.pods).await);
        now.look(&self.parts, self.audit.as_deref(), self.traces.as_deref());
        self.metrics.text()
    }
}
