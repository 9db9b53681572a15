//! Whether an image may be pulled: the node's policy, asked anew at each pull.

use std::path::{Path, PathBuf};

use model::{Class, Classified as _, Digest};
use oci_image::{Descriptor, Manifest, Reference};
use trust::{Policy, Requirement, Signature, Signed, Unsigned, signature_tag, signatures};

use crate::layout;
use crate::source::{Origin, Top};
use crate::{Images, ImagesError};

/// The largest policy, and the largest key that it names, in bytes.
const MAX_POLICY: u64 = 4 << 20;
/// The largest payload of a signature, and the largest bundle, in bytes.
pub(crate) const MAX_PAYLOAD: u64 = 1 << 20;

/// The most reasons that a refusal tells.
const MOST_REASONS: usize = 8;

/// Signatures that an image needs. None where the policy lets it pass as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demands(Vec<Signed>);

impl Demands {
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Images {
    /// What the policy demands of `reference`.
    ///
    /// # Errors
    /// [`ImagesError::Untrusted`] for one that may not be pulled, and for every one while the policy
    /// cannot be read.
    pub(crate) async fn demands(&self, reference: &Reference) -> Result<Demands, ImagesError> {
        let Some(path) = self.inner.sources.policy.clone() else { return Ok(Demands::default()) };
        let shown = path.display().to_string();
        let read = tokio::task::spawn_blocking(move || load(&path)).await;
        let read = read.map_err(|e| ImagesError::Interrupted { what: e.to_string() })?;
        let policy = read.map_err(|problem| {
            untrusted(reference, format!("the policy {shown} cannot be used: {problem}"))
        })?;
        let mut demands = Vec::new();
        for requirement in policy.requirements(reference) {
            match requirement {
                Requirement::Accept => {}
                Requirement::Reject => {
                    let problem = format!("the policy {shown} does not allow it");
                    return Err(untrusted(reference, problem));
                }
                Requirement::Signed(signed) => demands.push(signed.as_ref().clone()),
            }
        }
        Ok(Demands(demands))
    }

    /// Whether the image that led from one of `digests` to the next has the signatures that are demanded:
    /// one over any of them says what the others are.
    ///
    /// # Errors
    /// [`ImagesError::Untrusted`]; why the registry did not give the signatures.
    pub(crate) async fn verify(
        &self,
        origin: &Origin,
        demands: &Demands,
        digests: &[Digest],
    ) -> Result<(), ImagesError> {
        if demands.is_empty() {
            return Ok(());
        }
        let reference = &origin.reference;
        let mut left: Vec<&Signed> = demands.0.iter().collect();
        let mut refusal = Unsigned { reasons: Vec::new() };
        for digest in digests {
            let found = self.signatures_of(origin, digest).await;
            let found = found.map_err(|e| unreadable(reference, e))?;
            left.retain(|s| is_refused(s.check(&found, reference, digest), &mut refusal));
            if left.is_empty() {
                return Ok(());
            }
            let found = self.bundles_of(origin, digest).await;
            let found = found.map_err(|e| unreadable(reference, e))?;
            is_refused(Err(Unsigned { reasons: found.unusable }), &mut refusal);
            let bundles = &found.found;
            left.retain(|s| is_refused(s.check_bundles(bundles, reference, digest), &mut refusal));
            if left.is_empty() {
                return Ok(());
            }
        }
        Err(untrusted(reference, refusal.to_string()))
    }

    /// The signatures beside the image with this digest.
    async fn signatures_of(
        &self,
        origin: &Origin,
        digest: &Digest,
    ) -> Result<Vec<Signature>, ImagesError> {
        let text = format!("{}:{}", origin.reference.name(), signature_tag(digest));
        let beside = Reference::parse(&text).map_err(|e| ImagesError::BadReference {
            given: e.given.clone(),
            reason: e.reason.to_owned(),
        })?;
        let mut origin = origin.clone();
        let local = match origin.layout.take() {
            Some(_) => self.preloaded(&beside).await?,
            None => None,
        };
        let top: Top = match local {
            Some((layout, top)) => {
                origin.layout = Some(layout);
                top
            }
            None => match self.top(&origin, &beside).await? {
                Some(top) => top,
                None => return Ok(Vec::new()),
            },
        };
        let manifest = Self::parse_document(&text, &top.bytes, &top.descriptor.media_type)?;
        let Manifest::Image(manifest) = manifest else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for descriptor in signatures(&manifest) {
            let plain = Descriptor { annotations: Default::default(), ..descriptor.clone() };
            let payload = self.small(&origin, &plain, MAX_PAYLOAD).await?;
            all.extend(Signature::of(&descriptor.annotations, payload));
        }
        Ok(all)
    }

    /// The directory of this node that has `reference`, and what it means there.
    pub(crate) async fn preloaded(
        &self,
        reference: &Reference,
    ) -> Result<Option<(layout::Layout, Top)>, ImagesError> {
        let directories = self.inner.sources.preloaded.clone();
        if directories.is_empty() {
            return Ok(None);
        }
        let reference = reference.clone();
        let found = tokio::task::spawn_blocking(move || layout::find(&directories, &reference));
        found.await.map_err(|e| ImagesError::Interrupted { what: e.to_string() })
    }
}

/// Whether nothing was good enough; why, is added to `refusal`.
fn is_refused(checked: Result<(), Unsigned>, refusal: &mut Unsigned) -> bool {
    let Err(unsigned) = checked else { return false };
    for reason in unsigned.reasons {
        if !refusal.reasons.contains(&reason) && refusal.reasons.len() < MOST_REASONS {
            refusal.reasons.push(reason);
        }
    }
    true
}

/// Why an image is not pulled whose signatures cannot be read.
fn unreadable(reference: &Reference, error: ImagesError) -> ImagesError {
    // That nobody can say anything about the signatures now says nothing about the image.
    if is_about_the_registry(error.class()) {
        return error;
    }
    untrusted(reference, format!("its signatures cannot be read: {error}"))
}

/// Whether a failure is the registry's or the caller's, and none of the image.
pub(crate) fn is_about_the_registry(class: Class) -> bool {
    matches!(class, Class::Unavailable | Class::DeadlineExceeded | Class::Unauthenticated)
}

fn untrusted(reference: &Reference, problem: String) -> ImagesError {
    ImagesError::Untrusted { reference: reference.to_string(), problem }
}

fn load(path: &Path) -> Result<Policy, String> {
    let text = read(path).map_err(|e| e.to_string())?;
    Policy::parse(&text, &read).map_err(|e| {
        let cause = std::error::Error::source(&e).map(|s| format!(": {s}")).unwrap_or_default();
        format!("{e}{cause}")
    })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(PathBuf::from(path))?.take(MAX_POLICY + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_POLICY {
        return Err(std::io::Error::other(format!("it has more than {MAX_POLICY} bytes")));
    }
    Ok(bytes)
}
