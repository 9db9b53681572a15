//! What a signature claims, whichever form it has. Nothing of it is trusted before it is verified.

use crate::key::PublicKey;

/// A signature with what is said to stand behind it. Errors are in words.
pub(crate) trait Claim {
    /// The bytes that are said to be signed.
    fn message(&self) -> &[u8];

    /// The signature.
    fn signature(&self) -> Result<Vec<u8>, String>;

    /// The certificate (DER) that stands for the key.
    fn certificate(&self) -> Result<Vec<u8>, String>;

    /// Certificates (DER) between that one and its authority.
    fn between(&self) -> Result<Vec<Vec<u8>>, String>;

    /// When one of `logs` took it in, by `signer`, in seconds since 1970.
    fn logged(&self, logs: &[PublicKey], signer: Signer<'_>) -> Result<u64, String>;
}

/// By whom a log must have the signature.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signer<'a> {
    /// Whom this certificate (DER) stands for.
    Certificate(&'a [u8]),
    /// Whoever has this key.
    Key(&'a PublicKey),
}
