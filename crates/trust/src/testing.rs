//! Keys, an authority and a log that tests make themselves.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Digest;
use oci_image::Reference;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

use crate::{Policy, Requirement, Signed};

/// In the middle of a certificate's validity, which rcgen sets to decades.
pub(crate) const WITHIN: u64 = 1_700_000_000;

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

pub(crate) fn public(key: &KeyPair) -> String {
    pem("PUBLIC KEY", &rcgen::PublicKeyData::subject_public_key_info(key))
}

/// A signature over `message`, in base64.
pub(crate) fn sign(key: &KeyPair, message: &[u8]) -> String {
    let random = SystemRandom::new();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.serialized_der(), &random);
    STANDARD.encode(pair.unwrap().sign(&random, message).unwrap())
}

pub(crate) fn digest() -> Digest {
    oci_image::sha256(b"manifest")
}

pub(crate) fn data(text: &str) -> String {
    STANDARD.encode(text)
}

/// The demand of a policy whose only rule has these fields.
pub(crate) fn demand(fields: &serde_json::Value) -> Signed {
    let mut rule = fields.clone();
    rule["type"] = "sigstoreSigned".into();
    let text = serde_json::json!({ "default": [rule] }).to_string();
    let nothing = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let policy = Policy::parse(text.as_bytes(), &nothing).unwrap();
    match policy.requirements(&Reference::parse("x").unwrap()) {
        [Requirement::Signed(signed)] => signed.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn by_key(key: &KeyPair, identity: &serde_json::Value) -> Signed {
    demand(&serde_json::json!({ "keyData": data(&public(key)), "signedIdentity": identity }))
}

/// An authority, who got a certificate of it, and a log.
pub(crate) struct Sigstore {
    pub authority: String,
    pub log: KeyPair,
    /// PEM.
    pub leaf: String,
    pub leaf_der: Vec<u8>,
    pub key: KeyPair,
}

impl Sigstore {
    pub fn new(purpose: ExtendedKeyUsagePurpose) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(params, authority_key);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::Rfc822Name("me@example.com".try_into().unwrap())];
        params.extended_key_usages = vec![purpose];
        let oid = [1, 3, 6, 1, 4, 1, 57264, 1, 1];
        let issued_by = b"https://id.example.com".to_vec();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, issued_by)];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let (leaf_der, leaf) = (leaf.der().to_vec(), leaf.pem());
        Self { authority, log: KeyPair::generate().unwrap(), leaf, leaf_der, key }
    }

    pub fn demand(&self, issuer: &str, subject: &str, identity: &str) -> Signed {
        demand(&serde_json::json!({
            "fulcio": { "caData": data(&self.authority), "oidcIssuer": issuer, "subjectEmail": subject },
            "rekorPublicKeyData": data(&public(&self.log)),
            "signedIdentity": { "type": identity },
        }))
    }

    /// An entry in base64, and the log's promise of it.
    pub fn promise(&self, entry: &serde_json::Value, at: u64) -> (String, String) {
        let body = data(&entry.to_string());
        let canonical =
            format!(r#"{{"body":"{body}","integratedTime":{at},"logID":"c0d2","logIndex":7}}"#);
        (body, sign(&self.log, canonical.as_bytes()))
    }
}
