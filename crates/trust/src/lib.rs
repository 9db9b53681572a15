//! Which images may be pulled, and whether their signatures are good.
//!
//! Owns: the policy file in the form of containers-policy.json(5), and the verification of signatures as
//! cosign stores them: a payload that names a manifest's digest, signed by a key, or by a key that a
//! certificate of a sigstore authority stands for. Always: no I/O, no clock; what is not understood is
//! refused; an empty list of signatures is a refusal.
//! Callers: `images`, which fetches what is to be verified.

mod certificate;
mod der;
mod key;
mod pem;
mod policy;
mod rekor;
mod signature;
mod signed;

pub use policy::{BadPolicy, Policy, Requirement};
pub use signature::{Signature, signature_tag, signatures};
pub use signed::{Signed, Unsigned};
