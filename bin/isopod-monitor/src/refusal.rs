//! Failures as the daemon is told them.

use std::io;

use launcher::{Failure, LaunchError, Phase};
use model::{Class, Classified as _};
use monitor_api::Refusal;

/// A refusal that has nothing to do with a launch.
pub fn refuse(class: Class, message: impl Into<String>) -> Refusal {
    Refusal { class, phase: String::new(), message: message.into() }
}

/// For `map_err`: what was done, and the class of why it failed.
pub fn failed<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Refusal {
    let what = what.into();
    move |error| {
        let error = error.into();
        refuse(Class::of_io(&error), format!("{what}: {error}"))
    }
}

/// A failed launch.
pub fn launch_failed(error: LaunchError) -> Refusal {
    Refusal { class: error.class(), phase: error.phase.as_str().to_owned(), message: error.message }
}

/// A failed step of a launch.
pub fn step_failed(phase: Phase) -> impl FnOnce(Failure) -> Refusal {
    move |failure| launch_failed(failure.during(phase))
}
