//! The name under which a compiled profile is kept.

use runtime_spec::Seccomp;
use sha2::{Digest as _, Sha256};

/// Changes when the compiler's output for the same profile may have changed.
const GENERATION: u32 = 1;

/// A hash that two profiles share only if they are the same to this version of the compiler: 64
/// hexadecimal digits.
#[must_use]
pub fn profile_hash(profile: &Seccomp) -> String {
    let mut hasher = Sha256::new();
    hasher.update(GENERATION.to_le_bytes());
    // Plain strings and numbers always can be written as JSON.
    hasher.update(serde_json::to_vec(profile).unwrap_or_default());
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_differs_in_anything_has_another_name() {
        let plain = Seccomp { default_action: "SCMP_ACT_ALLOW".to_owned(), ..Seccomp::default() };
        let flagged = Seccomp { flags: vec!["X".to_owned()], ..plain.clone() };
        assert_eq!(profile_hash(&plain), profile_hash(&plain.clone()));
        assert_ne!(profile_hash(&plain), profile_hash(&flagged));
        assert_eq!(profile_hash(&plain).len(), 64);
    }
}
