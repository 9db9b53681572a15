//! Credentials that come with a pull.

use oci_image::Reference;
use registry::{AuthParts, Credentials};

use crate::ImagesError;

/// The credentials that `parts` stand for, where `server_address` (CRI `AuthConfig.server_address`) is the
/// registry of `image`; none otherwise: a secret goes to nobody else.
///
/// # Errors
/// [`ImagesError::BadReference`]; [`ImagesError::BadCredentials`], which shows nothing of them.
pub fn credentials(
    image: &str,
    server_address: &str,
    parts: &AuthParts,
) -> Result<Option<Credentials>, ImagesError> {
    let reference = Reference::parse(image).map_err(|e| ImagesError::BadReference {
        given: e.given.clone(),
        reason: e.reason.to_owned(),
    })?;
    if !registry::server_matches(server_address, &reference) {
        return Ok(None);
    }
    match Credentials::from_parts(parts)? {
        Credentials::None => Ok(None),
        given @ (Credentials::Basic { .. }
        | Credentials::IdentityToken(_)
        | Credentials::RegistryToken(_)) => Ok(Some(given)),
    }
}

/// Whether credentials that came with `text` are for the registry of `reference`: they are where the text
/// itself says that registry, not where a list of registries leads to it.
pub(crate) fn are_for(text: &str, reference: &Reference) -> bool {
    Reference::parse(text).is_ok_and(|named| named.registry() == reference.registry())
}

#[cfg(test)]
mod tests {
    use model::Secret;

    use super::*;

    #[test]
    fn credentials_for_another_registry_are_not_used() {
        let parts = AuthParts {
            username: "u".into(),
            password: Secret::new("p".into()),
            ..AuthParts::default()
        };
        for (server, used) in [("", true), ("r.example:5000", true), ("other.example", false)] {
            let got = credentials("r.example:5000/a/b:1", server, &parts).unwrap();
            assert_eq!(got.is_some(), used, "{server}");
        }
        assert!(credentials("r.example/x", "", &AuthParts::default()).unwrap().is_none());
        let bad = credentials("u:p@Not A Name/x", "", &parts).unwrap_err().to_string();
        assert!(bad.contains("[secret]@Not A Name") && !bad.contains("u:p"), "{bad}");
    }
}
