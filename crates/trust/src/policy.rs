//! The policy file (containers-policy.json(5)): what is demanded of which image.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_image::Reference;
use serde::Deserialize;

use crate::certificate::Authorities;
use crate::key::PublicKey;
use crate::signed::{By, Identity, Signed};

/// A policy that cannot be used. Until it is put right nothing is accepted.
#[derive(Debug, thiserror::Error)]
pub enum BadPolicy {
    /// It is not of the form.
    #[error("it is not a policy: {0}")]
    Json(#[from] serde_json::Error),
    /// It asks for what cannot be done.
    #[error("{place}: {problem}")]
    Rule {
        /// The scope in the file.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A key or certificate that it names cannot be read.
    #[error("{place}: cannot read {}", path.display())]
    File {
        /// The scope in the file.
        place: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What is demanded of an image; all demands on it must be met.
#[derive(Debug, Clone)]
pub enum Requirement {
    /// Nothing.
    Accept,
    /// It may not be pulled.
    Reject,
    /// A signature.
    Signed(Box<Signed>),
}

/// Demands by scope.
#[derive(Debug, Clone)]
pub struct Policy {
    default: Vec<Requirement>,
    /// Of the transport `docker`, which is what registries are called there.
    scopes: BTreeMap<String, Vec<Requirement>>,
}

// A key that is misspelled or there twice would leave out a demand, so neither is taken, at any depth.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default: Vec<Rule>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Rule>>>,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Rule {
    #[serde(rename = "insecureAcceptAnything")]
    Accept(Plain),
    #[serde(rename = "reject")]
    Reject(Plain),
    #[serde(rename = "sigstoreSigned")]
    Sigstore(Box<Sigstore>),
    /// Refused whatever it says where it counts; other transports may have it.
    #[serde(rename = "signedBy")]
    Gpg,
}

/// No field beside `type`. A variant without content would take any.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sigstore {
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    fulcio: Option<Fulcio>,
    rekor_public_key_path: Option<PathBuf>,
    rekor_public_key_paths: Option<Vec<PathBuf>>,
    rekor_public_key_data: Option<String>,
    rekor_public_key_datas: Option<Vec<String>>,
    signed_identity: Option<SignedIdentity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fulcio {
    ca_path: Option<PathBuf>,
    ca_data: Option<String>,
    oidc_issuer: String,
    subject_email: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum SignedIdentity {
    MatchRepoDigestOrExact(Plain),
    MatchExact(Plain),
    MatchRepository(Plain),
    /// Ours: containers-policy.json(5) has no word for it.
    MatchDigest(Plain),
    ExactReference(ExactReference),
    ExactRepository(ExactRepository),
    RemapIdentity(RemapIdentity),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExactReference {
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExactRepository {
    docker_repository: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RemapIdentity {
    prefix: String,
    signed_prefix: String,
}

/// Reads files that a policy names.
type Read<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

impl Policy {
    /// The policy in `text`; `read` reads the keys that it names.
    ///
    /// # Errors
    /// [`BadPolicy`]; nothing is left out of a policy: keys that are not known, or there twice, are
    /// errors too.
    pub fn parse(text: &[u8], read: Read<'_>) -> Result<Self, BadPolicy> {
        let file: File = oci_image::strict_json(text)?;
        let default = requirements("default", file.default, read)?;
        let mut scopes = BTreeMap::new();
        // What other transports say is about images that no registry gives.
        for (scope, rules) in
            file.transports.into_iter().filter(|(t, _)| t == "docker").flat_map(|(_, s)| s)
        {
            let place = format!("docker {scope:?}");
            scopes.insert(scope, requirements(&place, rules, read)?);
        }
        Ok(Self { default, scopes })
    }

    /// What is demanded of `reference`: by its whole name, its repository, what that lies in, its host,
    /// a part of the host's name, or by default.
    #[must_use]
    pub fn requirements(&self, reference: &Reference) -> &[Requirement] {
        let whole = match reference.digest() {
            Some(digest) => reference.with_digest(digest),
            None => format!("{}:{}", reference.name(), reference.version()),
        };
        let mut scopes = vec![whole];
        let mut name = reference.name();
        loop {
            scopes.push(name.to_owned());
            match name.rsplit_once('/') {
                Some((above, _)) => name = above,
                None => break,
            }
        }
        let mut host = reference.registry();
        while let Some((_, rest)) = host.split_once('.') {
            scopes.push(format!("*.{rest}"));
            host = rest;
        }
        scopes.push(String::new());
        scopes.iter().find_map(|s| self.scopes.get(s)).unwrap_or(&self.default)
    }
}

fn requirements(
    place: &str,
    rules: Vec<Rule>,
    read: Read<'_>,
) -> Result<Vec<Requirement>, BadPolicy> {
    let bad =
        |problem: &str| BadPolicy::Rule { place: place.to_owned(), problem: problem.to_owned() };
    if rules.is_empty() {
        return Err(bad("a list of rules must not be empty"));
    }
    let one = |rule| match rule {
        Rule::Accept(Plain {}) => Ok(Requirement::Accept),
        Rule::Reject(Plain {}) => Ok(Requirement::Reject),
        Rule::Gpg => {
            Err(bad("signatures of GPG keys (signedBy) are not supported; use sigstoreSigned"))
        }
        Rule::Sigstore(rule) => {
            Ok(Requirement::Signed(Box::new(Builder { place, read }.signed(*rule)?)))
        }
    };
    rules.into_iter().map(one).collect()
}

/// Where keys are.
enum Named {
    Paths(Vec<PathBuf>),
    Datas(Vec<String>),
}

struct Builder<'a> {
    place: &'a str,
    read: Read<'a>,
}

impl Builder<'_> {
    fn bad(&self, problem: impl Into<String>) -> BadPolicy {
        BadPolicy::Rule { place: self.place.to_owned(), problem: problem.into() }
    }

    fn signed(&self, rule: Sigstore) -> Result<Signed, BadPolicy> {
        let keys = self.keys(
            "keyPath(s), keyData(s)",
            [
                rule.key_path.map(|path| Named::Paths(vec![path])),
                rule.key_paths.map(Named::Paths),
                rule.key_data.map(|data| Named::Datas(vec![data])),
                rule.key_datas.map(Named::Datas),
            ],
        )?;
        let logs = self.keys(
            "rekorPublicKeyPath(s), rekorPublicKeyData(s)",
            [
                rule.rekor_public_key_path.map(|path| Named::Paths(vec![path])),
                rule.rekor_public_key_paths.map(Named::Paths),
                rule.rekor_public_key_data.map(|data| Named::Datas(vec![data])),
                rule.rekor_public_key_datas.map(Named::Datas),
            ],
        )?;
        let by = match (keys.is_empty(), rule.fulcio) {
            (false, None) => By::Keys(keys),
            (true, Some(fulcio)) => {
                if logs.is_empty() {
                    return Err(
                        self.bad("`fulcio` needs the public key of a log (rekorPublicKeyPath)")
                    );
                }
                self.fulcio(fulcio)?
            }
            (true, None) | (false, Some(_)) => {
                return Err(self.bad("exactly one of keyPath(s), keyData(s) and fulcio is needed"));
            }
        };
        let identity = match rule.signed_identity {
            None | Some(SignedIdentity::MatchRepoDigestOrExact(Plain {})) => {
                Identity::RepositoryOrExact
            }
            Some(SignedIdentity::MatchExact(Plain {})) => Identity::Exact,
            Some(SignedIdentity::MatchRepository(Plain {})) => Identity::Repository,
            Some(SignedIdentity::MatchDigest(Plain {})) => Identity::Any,
            Some(SignedIdentity::ExactReference(of)) => {
                Identity::ExactReference(of.docker_reference)
            }
            Some(SignedIdentity::ExactRepository(of)) => {
                Identity::ExactRepository(of.docker_repository)
            }
            Some(SignedIdentity::RemapIdentity(RemapIdentity { prefix, signed_prefix })) => {
                Identity::Remapped { prefix, signed_prefix }
            }
        };
        Ok(Signed { by, logs, identity })
    }

    /// The keys that one of `fields` names; none where there is none of them.
    fn keys(&self, fields: &str, named: [Option<Named>; 4]) -> Result<Vec<PublicKey>, BadPolicy> {
        let mut named = named.into_iter().flatten();
        let Some(only) = named.next() else { return Ok(Vec::new()) };
        if named.next().is_some() {
            return Err(self.bad(format!("only one of {fields} may be given")));
        }
        let mut keys = Vec::new();
        match only {
            Named::Paths(paths) => {
                for path in paths {
                    let text = self.file(&path)?;
                    keys.extend(self.some_keys(&text, &path.display().to_string())?);
                }
            }
            Named::Datas(datas) => {
                for data in datas {
                    keys.extend(self.some_keys(&self.data(&data)?, "a key in the file")?);
                }
            }
        }
        // A list without a key would be no demand at all.
        if keys.is_empty() {
            return Err(self.bad(format!("an empty list among {fields}")));
        }
        Ok(keys)
    }

    fn some_keys(&self, text: &[u8], what: &str) -> Result<Vec<PublicKey>, BadPolicy> {
        let keys = PublicKey::from_pem(text).map_err(|e| self.bad(format!("{what}: {e}")))?;
        if keys.is_empty() {
            Err(self.bad(format!("{what}: it has no public key")))
        } else {
            Ok(keys)
        }
    }

    fn fulcio(&self, fulcio: Fulcio) -> Result<By, BadPolicy> {
        let text = match (fulcio.ca_path, fulcio.ca_data) {
            (Some(path), None) => self.file(&path)?,
            (None, Some(data)) => self.data(&data)?,
            (None, None) | (Some(_), Some(_)) => {
                return Err(self.bad("`fulcio` needs exactly one of caPath and caData"));
            }
        };
        let authorities =
            Authorities::from_pem(&text).map_err(|e| self.bad(format!("the authority: {e}")))?;
        Ok(By::Identity { authorities, issuer: fulcio.oidc_issuer, subject: fulcio.subject_email })
    }

    fn file(&self, path: &Path) -> Result<Vec<u8>, BadPolicy> {
        (self.read)(path).map_err(|source| BadPolicy::File {
            place: self.place.to_owned(),
            path: path.to_owned(),
            source,
        })
    }

    fn data(&self, text: &str) -> Result<Vec<u8>, BadPolicy> {
        STANDARD.decode(text.trim()).map_err(|_| self.bad("data that is not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn parse(text: &str) -> Result<Policy, BadPolicy> {
        Policy::parse(text.as_bytes(), &nothing)
    }

    #[test]
    fn the_narrowest_scope_decides() {
        let policy = parse(
            r#"{"default":[{"type":"reject"}],"transports":{"docker-daemon":{"":[{"type":"reject"}]},"docker":{
                "docker.io":[{"type":"insecureAcceptAnything"}],
                "docker.io/library/bad":[{"type":"reject"}],
                "quay.io/team":[{"type":"insecureAcceptAnything"}],
                "*.example.com":[{"type":"insecureAcceptAnything"}],
                "r.example.com/a:1":[{"type":"reject"}]}}}"#,
        )
        .unwrap();
        for (name, accepted) in [
            ("busybox", true),
            ("bad:3", false),
            ("quay.io/team/x", true),
            ("quay.io/teams/x", false),
            ("r.example.com/a:2", true),
            ("r.example.com/a:1", false),
            ("a.b.example.com/a", true),
            ("example.com/a", false),
            ("ghcr.io/x", false),
        ] {
            let reference = Reference::parse(name).unwrap();
            let got = matches!(policy.requirements(&reference), [Requirement::Accept]);
            assert_eq!(got, accepted, "{name}");
        }
    }

    #[test]
    fn what_is_not_understood_is_no_policy() {
        for (text, part) in [
            ("", "EOF"),
            ("{}", "default"),
            (r#"{"default":[]}"#, "must not be empty"),
            (r#"{"default":[{"type":"maybe"}]}"#, "maybe"),
            (r#"{"default":[{"type":"signedBy","keyType":"GPGKeys"}]}"#, "not supported"),
            (r#"{"default":[{"type":"sigstoreSigned"}]}"#, "exactly one"),
            (r#"{"default":[{"type":"sigstoreSigned","keyPath":"/k","pki":{}}]}"#, "pki"),
            (r#"{"default":[{"type":"sigstoreSigned","keyPath":"/k"}]}"#, "cannot read /k"),
            (r#"{"default":[{"type":"sigstoreSigned","keyData":"eA=="}]}"#, "no public key"),
            (r#"{"default":[{"type":"sigstoreSigned","keyPaths":[]}]}"#, "an empty list"),
            (r#"{"default":[{"type":"sigstoreSigned","keyPath":"/k","keyDatas":[]}]}"#, "only one"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_key_that_is_not_known_or_there_twice_is_no_policy() {
        let accept = r#"{"type":"insecureAcceptAnything"}"#;
        let signed = |identity: &str| {
            format!(
                r#"{{"default":[{{"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{identity}}}]}}"#
            )
        };
        for (text, part) in [
            (format!(r#"{{"default":[{accept}],"transport":{{"docker":{{}}}}}}"#), "transport"),
            (format!(r#"{{"default":[{{"type":"reject"}}],"default":[{accept}]}}"#), "twice"),
            (
                format!(
                    r#"{{"default":[{accept}],"transports":{{"docker":{{"":[{{"type":"reject"}}]}},"docker":{{}}}}}}"#
                ),
                "twice",
            ),
            (
                format!(
                    r#"{{"default":[{accept}],"transports":{{"docker":{{"a.io":[{{"type":"reject"}}],"a.io":[{accept}]}}}}}}"#
                ),
                "twice",
            ),
            (
                r#"{"default":[{"type":"insecureAcceptAnything","keyPath":"/k"}]}"#.to_owned(),
                "keyPath",
            ),
            (r#"{"default":[{"type":"reject","but":"not"}]}"#.to_owned(), "but"),
            (
                r#"{"default":[{"type":"reject","type":"insecureAcceptAnything"}]}"#.to_owned(),
                "twice",
            ),
            (signed(r#"{"type":"matchExact","dockerReference":"x"}"#), "dockerReference"),
            (signed(r#"{"type":"matchRepository","prefix":"x"}"#), "prefix"),
            (signed(r#"{"type":"matchRepoDigestOrExact","a":1}"#), "unknown field"),
            (signed(r#"{"type":"matchDigest","prefix":"x"}"#), "prefix"),
            (signed(r#"{"type":"exactReference","dockerReference":"x","a":1}"#), "unknown field"),
            (signed(r#"{"type":"exactRepository","dockerRepository":"x","a":1}"#), "unknown"),
            (
                signed(r#"{"type":"remapIdentity","prefix":"x","signedPrefix":"y","a":1}"#),
                "unknown field",
            ),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_counts_for_other_transports_only_may_be_what_is_not_supported_here() {
        let text = r#"{"default":[{"type":"reject"}],"transports":{"docker-daemon":{
            "":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]}}}"#;
        assert!(matches!(
            parse(text).unwrap().requirements(&Reference::parse("x").unwrap()),
            [Requirement::Reject]
        ));
    }
}
