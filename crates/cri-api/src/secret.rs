//! `Debug` for messages whose values must not be printed.
//!
//! Owns: what is seen of credentials and of variables' values in logs and panics: a placeholder.
//! Always: a field is shown in full only where it cannot be a secret.
//! Callers: derived `Debug` of every message that holds one of these.

use std::fmt;

use crate::v1::{AuthConfig, KeyValue};

/// What is shown for a value that is there.
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Absent values show as the empty text, so that a log still tells which credentials were given.
fn hide(value: &[u8]) -> Option<Hidden> {
    (!value.is_empty()).then_some(Hidden)
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { username, password, auth, server_address, identity_token, registry_token } =
            self;
        f.debug_struct("AuthConfig")
            .field("username", &hide(username.as_bytes()))
            .field("password", &hide(password.as_bytes()))
            .field("auth", &hide(auth.as_bytes()))
            .field("server_address", server_address)
            .field("identity_token", &hide(identity_token.as_bytes()))
            .field("registry_token", &hide(registry_token.as_bytes()))
            .finish()
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value } = self;
        f.debug_struct("KeyValue").field("key", key).field("value", &hide(value)).finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::v1::{ContainerConfig, CreateContainerRequest, PullImageRequest};

    use super::*;

    #[test]
    fn no_credential_shows_in_a_printed_request() {
        let secret = "hunter2";
        let auth = AuthConfig {
            username: secret.to_owned(),
            password: secret.to_owned(),
            auth: secret.to_owned(),
            server_address: "registry.example".to_owned(),
            identity_token: secret.to_owned(),
            registry_token: secret.to_owned(),
        };
        let printed = format!("{:#?}", PullImageRequest { auth: Some(auth), ..Default::default() });
        assert!(!printed.contains(secret), "{printed}");
        assert!(printed.contains("registry.example"), "{printed}");
    }

    #[test]
    fn no_value_of_a_variable_shows_in_a_printed_request() {
        let env = KeyValue { key: "TOKEN".to_owned(), value: "hunter2".into() };
        let config = ContainerConfig { envs: vec![env], ..Default::default() };
        let printed =
            format!("{:?}", CreateContainerRequest { config: Some(config), ..Default::default() });
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains("TOKEN"), "{printed}");
    }
}
