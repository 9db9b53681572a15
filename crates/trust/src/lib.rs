//! Which images may be pulled, and whether their signatures are good.
//!
//! Owns: the policy file in the form of containers-policy.json(5), and the verification of signatures as
//! cosign stores them: a payload that names a manifest's digest (cosign 2), or a statement about it in a
//! sigstore bundle (cosign 3), signed by a key, or by a key that a certificate of a sigstore authority
//! stands for. Always: no I/O, no clock; nothing that is signed is read before its signature is verified;
//! what is not understood is refused; an empty list of signatures is a refusal.
//! Callers: `images`, which fetches what is to be verified.

mod bundle;
mod certificate;
mod claim;
mod der;
mod key;
mod pem;
mod policy;
mod rekor;
mod signature;
mod signed;
mod statement;
#[cfg(test)]
mod testing;

pub use bundle::{BUNDLE_TYPE, BadBundle, Bundle, bundle_of, may_be_signature};
pub use policy::{BadPolicy, Policy, Requirement};
pub use signature::{Signature, signature_tag, signatures};
pub use signed::{Signed, Unsigned};
