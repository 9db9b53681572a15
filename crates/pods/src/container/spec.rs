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
        process.env.iter_mut().for_each(keep_name);
    }
    Ok(spec)
}

/// Cuts a variable behind its `=`.
fn keep_name(variable: &mut String) {
    let named = variable.find('=').map_or(variable.len(), |end| end + 1);
    variable.truncate(named);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_variable_only_the_name_is_told() {
        for (variable, told) in [("TOKEN=hunter2=x", "TOKEN="), ("A=", "A="), ("odd", "odd")] {
            let mut variable = variable.to_owned();
            keep_name(&mut variable);
            assert_eq!(variable, told);
        }
    }
}
