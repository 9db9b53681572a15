//! Names of devices.

use std::fmt;

use crate::error::CdiError;

/// `vendor/class=name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName {
    /// `vendor/class`.
    kind: String,
    device: String,
}

impl DeviceName {
    /// The name that `text` is.
    ///
    /// # Errors
    /// [`CdiError::BadName`].
    pub fn parse(text: &str) -> Result<Self, CdiError> {
        let parts =
            text.split_once('=').filter(|(kind, device)| is_kind(kind) && is_device(device));
        match parts {
            Some((kind, device)) => Ok(Self { kind: kind.to_owned(), device: device.to_owned() }),
            None => Err(CdiError::BadName { given: text.to_owned() }),
        }
    }

    /// `vendor/class`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What follows the `=`.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

/// Whether `text` is `vendor/class`: both begin with a letter and end with a letter or a digit.
pub(crate) fn is_kind(text: &str) -> bool {
    let part = |text: &str, inner: &[u8]| {
        let bytes = text.as_bytes();
        bytes.first().is_some_and(u8::is_ascii_alphabetic)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || inner.contains(b))
    };
    text.split_once('/').is_some_and(|(vendor, class)| part(vendor, b"-_.") && part(class, b"-_"))
}

/// Whether `text` is the name of a device of some kind.
pub(crate) fn is_device(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_vendor_a_class_and_a_device() {
        for good in ["vendor.com/gpu=0", "v/c=all", "nvidia.com/gpu=GPU-1:2.a_b"] {
            assert_eq!(DeviceName::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "", "gpu", "a/b", "a/b=", "/b=c", "a/=c", "1a/b=c", "a/b.c=d", "a-/b=c", "a/b=-",
            "a/b=c d",
        ] {
            assert!(DeviceName::parse(bad).is_err(), "{bad:?} is taken for a name");
        }
    }
}
