//! Public keys (RFC 5280, SubjectPublicKeyInfo) and what they signed.

use ring::signature::{
    self, ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey,
};

use crate::der::{Der, OID, SEQUENCE, bits};
use crate::pem;

/// 1.2.840.10045.2.1, and its curves.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.3.101.112
const EDWARDS: &[u8] = &[0x2b, 0x65, 0x70];

/// A key that can verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    kind: Kind,
    point: Vec<u8>,
    /// The whole SubjectPublicKeyInfo.
    spki: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Rsa,
    Ed25519,
}

impl PublicKey {
    /// All keys of a PEM text; an empty list where it has none.
    ///
    /// # Errors
    /// In words.
    pub fn from_pem(text: &[u8]) -> Result<Vec<Self>, &'static str> {
        let blocks = pem::blocks(text, "PUBLIC KEY").ok_or("it is not PEM")?;
        let keys = blocks.iter().map(|b| Self::from_spki(b));
        keys.collect::<Option<Vec<_>>>().ok_or("it has a key of an unknown kind")
    }

    /// The key of a SubjectPublicKeyInfo.
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        let mut outer = Der(spki).expect(SEQUENCE)?.inside();
        let mut algorithm = outer.expect(SEQUENCE)?.inside();
        let name = algorithm.expect(OID)?.content;
        let curve = algorithm.next().filter(|e| e.tag == OID).map(|e| e.content);
        let kind = match (name, curve) {
            (EC, Some(P256)) => Kind::P256,
            (EC, Some(P384)) => Kind::P384,
            (RSA, _) => Kind::Rsa,
            (EDWARDS, _) => Kind::Ed25519,
            _ => return None,
        };
        let point = bits(&outer.next()?)?.to_vec();
        Some(Self { kind, point, spki: spki.to_vec() })
    }

    /// The SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Whether `signature` over `message` is this key's.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        // cosign hashes by SHA-256 whatever the curve; others take the hash that fits it.
        let algorithms: &[&'static dyn signature::VerificationAlgorithm] = match self.kind {
            Kind::P256 => &[&ECDSA_P256_SHA256_ASN1],
            Kind::P384 => &[&ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P384_SHA256_ASN1],
            Kind::Rsa => &[&RSA_PKCS1_2048_8192_SHA256],
            Kind::Ed25519 => &[&ED25519],
        };
        algorithms
            .iter()
            .any(|a| UnparsedPublicKey::new(*a, &self.point).verify(message, signature).is_ok())
    }
}
