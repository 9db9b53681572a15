//! Credentials: where they come from and which host they are for.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{Class, Classified, Secret};
use oci_image::Reference;
use serde::Deserialize;

/// How to say to a registry who is asking.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Credentials {
    /// As nobody.
    #[default]
    None,
    /// With a name and a password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Secret<String>,
    },
    /// With a refresh token that the token server changes for an access token.
    IdentityToken(Secret<String>),
    /// With an access token, as it is.
    RegistryToken(Secret<String>),
}

/// The fields of CRI's `AuthConfig`, and of an entry of Docker's `config.json`. Empty means absent.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct AuthParts {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret<String>,
    /// `name:password` in base64.
    pub auth: Secret<String>,
    /// A refresh token.
    #[serde(rename = "identitytoken", alias = "identity_token")]
    pub identity_token: Secret<String>,
    /// An access token.
    #[serde(rename = "registrytoken", alias = "registry_token")]
    pub registry_token: Secret<String>,
}

impl std::fmt::Debug for AuthParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthParts").finish_non_exhaustive()
    }
}

/// Credentials that cannot be read. Says nothing about their content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the credentials{} cannot be used: {reason}", place.as_ref().map(|p| format!(" for {p:?}")).unwrap_or_default())]
pub struct BadCredentials {
    /// The entry that they come from, where there are several.
    pub place: Option<String>,
    /// What is wrong.
    pub reason: &'static str,
}

impl Classified for BadCredentials {
    fn class(&self) -> Class {
        Class::InvalidArgument
    }
}

impl Credentials {
    /// The credentials that `parts` stand for; tokens go before passwords.
    ///
    /// # Errors
    /// [`BadCredentials`] if `auth` is not `name:password` in base64.
    pub fn from_parts(parts: &AuthParts) -> Result<Self, BadCredentials> {
        let full = |s: &Secret<String>| !s.expose().is_empty();
        if full(&parts.registry_token) {
            return Ok(Self::RegistryToken(parts.registry_token.clone()));
        }
        if full(&parts.identity_token) {
            return Ok(Self::IdentityToken(parts.identity_token.clone()));
        }
        if !parts.username.is_empty() {
            return Ok(Self::basic(&parts.username, parts.password.expose()));
        }
        if !full(&parts.auth) {
            return Ok(Self::None);
        }
        let bad = |reason| BadCredentials { place: None, reason };
        let decoded =
            STANDARD.decode(parts.auth.expose().trim()).map_err(|_| bad("`auth` is not base64"))?;
        let text = String::from_utf8(decoded).map_err(|_| bad("`auth` is not text"))?;
        // Some tools pad the password with NULs.
        let text = text.trim_matches('\0');
        let (user, password) =
            text.split_once(':').ok_or_else(|| bad("`auth` is not name:password"))?;
        Ok(Self::basic(user, password))
    }

    pub(crate) fn basic(user: &str, password: &str) -> Self {
        // Azure's and Google's tools store a refresh token under this name.
        if user == "<token>" {
            return Self::IdentityToken(Secret::new(password.to_owned()));
        }
        Self::Basic { user: user.to_owned(), password: Secret::new(password.to_owned()) }
    }
}

/// Whether credentials that were given for `server_address` (CRI `AuthConfig.server_address`, a
/// host or a URL; empty means any) are for the registry of `reference`.
#[must_use]
pub fn server_matches(server_address: &str, reference: &Reference) -> bool {
    let (host, _) = split_server(server_address);
    host.is_empty() || same_registry(&host, reference.registry())
}

/// Credentials by host, from this node's configuration.
///
/// An entry is for a host or for a part of its repositories (`quay.io/team`); `*.` stands for one
/// label of a host name. The longest matching path decides, then the exact host.
#[derive(Debug, Clone, Default)]
pub struct NodeCredentials {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    host: String,
    path: String,
    credentials: Credentials,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, AuthParts>,
}

impl NodeCredentials {
    /// None at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `credentials` for `server`: a host, a host and path, or a URL.
    pub fn add(&mut self, server: &str, credentials: Credentials) {
        let (host, path) = split_server(server);
        self.entries.push(Entry { host, path, credentials });
    }

    /// Adds all of `other`, which goes before what is here.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.entries.extend(other.entries.iter().cloned());
    }

    /// Adds the `auths` of a Docker `config.json`. Credential helpers named there are not run.
    ///
    /// # Errors
    /// [`BadCredentials`] if the text is not such a file; nothing is added then.
    pub fn add_docker_config(&mut self, text: &[u8]) -> Result<(), BadCredentials> {
        let config: DockerConfig = serde_json::from_slice(text).map_err(|_| BadCredentials {
            place: None,
            reason: "the file is not a Docker config.json",
        })?;
        let mut new = Vec::new();
        for (server, parts) in &config.auths {
            let credentials = Credentials::from_parts(parts)
                .map_err(|e| BadCredentials { place: Some(server.clone()), ..e })?;
            // With a helper, the entry is there and empty.
            if credentials != Credentials::None {
                new.push((server, credentials));
            }
        }
        for (server, credentials) in new {
            self.add(server, credentials);
        }
        Ok(())
    }

    /// The credentials for `repository` on `host`; an entry added later goes before an equal one.
    #[must_use]
    pub fn find(&self, host: &str, repository: &str) -> Option<&Credentials> {
        let fits = |e: &&Entry| host_matches(&e.host, host) && path_matches(&e.path, repository);
        let rank = |e: &&Entry| (e.path.len(), !e.host.starts_with("*."));
        self.entries.iter().filter(fits).max_by_key(rank).map(|e| &e.credentials)
    }
}

/// Host and path of what people write as a server: `https://index.docker.io/v1/`, `quay.io/team`.
fn split_server(server: &str) -> (String, String) {
    let text = server.trim();
    let text =
        text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    let path = path.trim_matches('/');
    // These are the API's own versions, not repositories.
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    (host.to_ascii_lowercase(), path.to_owned())
}

pub(crate) fn is_hub(host: &str) -> bool {
    matches!(
        host,
        "docker.io" | "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com"
    )
}

fn same_registry(a: &str, b: &str) -> bool {
    a == b || (is_hub(a) && is_hub(b))
}

fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(label, r)| !label.is_empty() && r == rest),
        None => same_registry(pattern, host),
    }
}

fn path_matches(prefix: &str, repository: &str) -> bool {
    prefix.is_empty()
        || repository.strip_prefix(prefix).is_some_and(|r| r.is_empty() || r.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic { user: user.into(), password: Secret::new(password.into()) }
    }

    #[test]
    fn every_form_of_an_auth_config_is_understood() {
        let secret = |s: &str| Secret::new(s.to_owned());
        let parts = AuthParts { auth: secret("dTpwOnc="), ..AuthParts::default() };
        assert_eq!(Credentials::from_parts(&parts), Ok(basic("u", "p:w")));
        let parts = AuthParts { username: "u".into(), password: secret("p"), ..parts };
        assert_eq!(Credentials::from_parts(&parts), Ok(basic("u", "p")));
        let parts = AuthParts { identity_token: secret("i"), ..parts };
        assert_eq!(Credentials::from_parts(&parts), Ok(Credentials::IdentityToken(secret("i"))));
        let parts = AuthParts { registry_token: secret("r"), ..parts };
        assert_eq!(Credentials::from_parts(&parts), Ok(Credentials::RegistryToken(secret("r"))));
        assert_eq!(Credentials::from_parts(&AuthParts::default()), Ok(Credentials::None));
        for bad in ["%", "dQ==", "/w=="] {
            let parts = AuthParts { auth: secret(bad), ..AuthParts::default() };
            let e = Credentials::from_parts(&parts).unwrap_err();
            assert!(!e.to_string().contains(bad), "{e}");
        }
    }

    #[test]
    fn node_credentials_are_found_by_host_and_path() {
        let mut node = NodeCredentials::new();
        let config = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnA="},
            "quay.io":{"username":"q","password":"p"},"quay.io/team":{"username":"t","password":"p"},
            "*.azurecr.io":{"identitytoken":"x"}},"credsStore":"desktop"}"#;
        node.add_docker_config(config).unwrap();
        node.add("localhost:5000", basic("l", "p"));
        let user = |host, repo| match node.find(host, repo) {
            Some(Credentials::Basic { user, .. }) => user.clone(),
            Some(Credentials::IdentityToken(_)) => "token".into(),
            Some(Credentials::None | Credentials::RegistryToken(_)) | None => String::new(),
        };
        for (host, repo, want) in [
            ("docker.io", "library/busybox", "hub"),
            ("registry-1.docker.io", "library/busybox", "hub"),
            ("quay.io", "other/x", "q"),
            ("quay.io", "team/x", "t"),
            ("quay.io", "teams/x", "q"),
            ("a.azurecr.io", "x", "token"),
            ("a.b.azurecr.io", "x", ""),
            ("localhost:5000", "x", "l"),
            ("localhost", "x", ""),
            ("evil-quay.io", "team/x", ""),
        ] {
            assert_eq!(user(host, repo), want, "{host}/{repo}");
        }
        assert!(node.add_docker_config(b"{").is_err());
        assert!(!format!("{node:?}").contains("\"p\""));
    }

    #[test]
    fn a_server_address_limits_credentials_to_its_registry() {
        let r = Reference::parse("busybox").unwrap();
        for (address, want) in [
            ("", true),
            ("https://index.docker.io/v1/", true),
            ("docker.io", true),
            ("quay.io", false),
            ("http://docker.io.evil.example/", false),
        ] {
            assert_eq!(server_matches(address, &r), want, "{address}");
        }
    }
}
