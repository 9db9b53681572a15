//! `ImageSpec` and `AuthConfig`.

use cri_api::v1;
use images::AuthParts;
use model::{ImageSpec, Secret};

use super::{At, BadField};

/// The longest reference: a name of 255 characters, a tag and a digest, with room to spare.
const MAX_REFERENCE: usize = 1024;

/// An image as a request names it.
pub(crate) fn image_spec(at: At<'_>, given: Option<&v1::ImageSpec>) -> Result<ImageSpec, BadField> {
    let given = given.ok_or_else(|| at.missing())?;
    if given.image.is_empty() {
        return Err(at.to("image").missing());
    }
    let ok = given.image.len() <= MAX_REFERENCE
        && !given.image.chars().any(|c| c.is_control() || c.is_whitespace());
    if !ok {
        let expected = "a name, an id or a digest of at most 1024 characters is needed";
        return Err(at.to("image").bad(&given.image, expected));
    }
    Ok(ImageSpec {
        image: given.image.clone(),
        annotations: given.annotations.clone(),
        user_specified_image: given.user_specified_image.clone(),
        runtime_handler: given.runtime_handler.clone(),
        image_ref: given.image_ref.clone(),
    })
}

/// The server that credentials are for, and what they are made of.
pub(crate) fn auth(given: v1::AuthConfig) -> (String, AuthParts) {
    let parts = AuthParts {
        username: given.username,
        password: Secret::new(given.password),
        auth: Secret::new(given.auth),
        identity_token: Secret::new(given.identity_token),
        registry_token: Secret::new(given.registry_token),
    };
    (given.server_address, parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_one_word() {
        let at = At::field("image");
        let spec = |image: &str| v1::ImageSpec { image: image.into(), ..Default::default() };
        assert_eq!(image_spec(at, Some(&spec("busybox"))).unwrap().image, "busybox");
        assert_eq!(image_spec(at, None).unwrap_err().field, "image");
        for bad in ["", "a b", "a\n", &"x".repeat(2000)] {
            assert_eq!(image_spec(at, Some(&spec(bad))).unwrap_err().field, "image.image");
        }
    }
}
