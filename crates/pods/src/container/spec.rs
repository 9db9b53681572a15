//! The runtime spec of a container, for people.

use model::ContainerId;
use operations::Phases;
use runtime_spec::Spec;

use super::{bundle, name, there};
use crate::error::PodsError;
use crate::pods::Pods;
use crate::steps::blocking_step;

/// Values of the environment are secrets, so only the names are in it.
pub(crate) async fn spec(pods: &Pods, id: &ContainerId) -> Result<Spec, PodsError> {
    let inner = &pods.inner;
    let record = there(inner, id).await?;
    let dir = inner.bundle(&record.sandbox, id);
    let (phases, deadline) = (Phases::begin(), inner.config.deadlines.answer);
    let read = blocking_step(&phases, "bundle", deadline, move || bundle::read(&dir));
    let mut spec =
        read.await.map_err(|failure| failure.of("ContainerStatus", &name(inner, &record)))?;
    if let Some(process) = &mut spec.process {
        for variable in &mut process.env {
            let named = variable.find('=').map_or(variable.len(), |end| end + 1);
            variable.truncate(named);
        }
    }
    Ok(spec)
}
