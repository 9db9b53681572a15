//! Profiles as files: the shape of the runtime specification, and Docker's, which has conditions on rules.

use runtime_spec::Seccomp;

use crate::arch::Arch;
use crate::error::BadProfile;

/// What a profile's conditions are about.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The machine.
    pub arch: Arch,
    /// The container's bounding set, with `CAP_`.
    pub capabilities: &'a [String],
    /// The kernel's version, major and minor.
    pub kernel: (u32, u32),
}

/// Reads a profile for `target`: rules whose conditions do not hold are left out.
///
/// # Errors
/// [`BadProfile::Json`], [`BadProfile::TooLong`].
pub fn parse_profile(_json: &[u8], _target: &Target<'_>) -> Result<Seccomp, BadProfile> {
    Err(BadProfile::Unsupported { field: "seccomp".to_owned(), what: "reading".to_owned() })
}
