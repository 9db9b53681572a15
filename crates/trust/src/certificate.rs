//! Certificates of a sigstore authority (Fulcio): who got one, from which identity provider, when.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::der::{BOOLEAN, Der, OCTET_STRING, OID, SEQUENCE, UTF8_STRING};
use crate::key::PublicKey;
use crate::pem;

/// 1.3.6.1.5.5.7.3.3, code signing.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// 2.5.29.17
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 1.3.6.1.4.1.57264.1.1: the issuer as plain bytes, and .8, as a DER string.
const ISSUER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x01];
const ISSUER_AS_DER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x08];
const EMAIL_NAME: u8 = 0x81;
const URI_NAME: u8 = 0x86;

/// Authorities that are trusted.
#[derive(Debug, Clone)]
pub(crate) struct Authorities(Vec<Vec<u8>>);

impl Authorities {
    /// Those of a PEM text.
    ///
    /// # Errors
    /// In words.
    pub fn from_pem(text: &[u8]) -> Result<Self, &'static str> {
        let all = pem::blocks(text, "CERTIFICATE").ok_or("it is not PEM")?;
        for der in &all {
            anchor(der).ok_or("it has a certificate that cannot be read")?;
        }
        if all.is_empty() { Err("it has no certificate") } else { Ok(Self(all)) }
    }

    /// The certificate `leaf` (DER), if it leads to one of these over those in `between` (DER) and was
    /// valid at `at`, in seconds since 1970.
    ///
    /// # Errors
    /// In words.
    pub fn verify(&self, leaf: &[u8], between: Vec<Vec<u8>>, at: u64) -> Result<Leaf, String> {
        let bad = || "its certificate cannot be read".to_owned();
        let between: Vec<_> = between.into_iter().map(CertificateDer::from).collect();
        let anchors: Vec<TrustAnchor<'static>> = self.0.iter().filter_map(|d| anchor(d)).collect();
        let der = CertificateDer::from(leaf);
        let entity = EndEntityCert::try_from(&der).map_err(|_| bad())?;
        entity
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                &between,
                UnixTime::since_unix_epoch(Duration::from_secs(at)),
                KeyUsage::required(CODE_SIGNING),
                None,
                None,
            )
            .map_err(|e| format!("its certificate is not accepted: {e}"))?;
        Leaf::read(leaf).ok_or_else(bad)
    }
}

fn anchor(der: &[u8]) -> Option<TrustAnchor<'static>> {
    let der = CertificateDer::from(der);
    anchor_from_trusted_cert(&der).ok().map(|a| a.to_owned())
}

/// What a certificate says.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub key: PublicKey,
    /// Addresses and URIs that it stands for.
    pub names: Vec<String>,
    /// Who vouched for the name.
    pub issuer: Option<String>,
}

impl Leaf {
    fn read(der: &[u8]) -> Option<Self> {
        let mut fields = Der(der).expect(SEQUENCE)?.inside().expect(SEQUENCE)?.inside();
        let (mut sequences, mut key) = (0, None);
        let mut leaf_names = Vec::new();
        let mut issuer = None;
        while let Some(field) = fields.next() {
            match field.tag {
                // Signature algorithm, issuer, validity, subject, key.
                SEQUENCE => {
                    sequences += 1;
                    if sequences == 5 {
                        key = PublicKey::from_spki(field.whole);
                    }
                }
                0xa3 => {
                    let mut all = field.inside().expect(SEQUENCE)?.inside();
                    while let Some(extension) = all.next() {
                        let (name, value) = extension_of(extension.inside())?;
                        match name {
                            ALTERNATIVE_NAME => leaf_names = names(value)?,
                            ISSUER => issuer = text(value),
                            ISSUER_AS_DER => {
                                issuer = text(Der(value).expect(UTF8_STRING)?.content);
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Some(Self { key: key?, names: leaf_names, issuer })
    }
}

fn extension_of(mut extension: Der<'_>) -> Option<(&[u8], &[u8])> {
    let name = extension.expect(OID)?.content;
    let mut value = extension.next()?;
    if value.tag == BOOLEAN {
        value = extension.next()?;
    }
    (value.tag == OCTET_STRING).then_some((name, value.content))
}

fn names(value: &[u8]) -> Option<Vec<String>> {
    let mut all = Der(value).expect(SEQUENCE)?.inside();
    let mut names = Vec::new();
    while let Some(name) = all.next() {
        if matches!(name.tag, EMAIL_NAME | URI_NAME) {
            names.extend(text(name.content));
        }
    }
    Some(names)
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}
