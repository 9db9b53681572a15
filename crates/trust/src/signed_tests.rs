use std::collections::BTreeMap;

use rcgen::{ExtendedKeyUsagePurpose, KeyPair};

use super::*;
use crate::testing::{Sigstore, WITHIN, by_key, data, demand, digest, public, sign};

fn payload(name: &str) -> Vec<u8> {
    let digest = digest();
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    )
    .into_bytes()
}

fn signature(key: &KeyPair, payload: Vec<u8>) -> Signature {
    let signature = sign(key, &payload);
    let annotations = BTreeMap::from([("dev.cosignproject.cosign/signature".into(), signature)]);
    Signature::of(&annotations, payload).unwrap()
}

#[test]
fn only_the_right_key_over_the_right_image_counts() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let signed = by_key(&key, &serde_json::json!({ "type": "matchRepository" }));
    let wanted = Reference::parse("r.example/a/b:1").unwrap();
    let good = signature(&key, payload("r.example/a/b"));
    assert_eq!(signed.check(std::slice::from_ref(&good), &wanted, &digest()), Ok(()));
    // One good one is enough.
    let foreign = signature(&other, payload("r.example/a/b"));
    assert_eq!(signed.check(&[foreign.clone(), good.clone()], &wanted, &digest()), Ok(()));

    let changed = Signature { payload: payload("r.example/a/c"), ..good.clone() };
    let garbled = Signature { signature: "%".into(), ..good.clone() };
    let kind = String::from_utf8(payload("r.example/a/b")).unwrap().replace("cosign", "atomic");
    let another_kind = signature(&key, kind.into_bytes());
    for (signatures, part) in [
        (vec![], "there is none"),
        (vec![foreign], "not signed by a key"),
        (vec![changed], "not signed by a key"),
        (vec![garbled], "not base64"),
        (vec![signature(&key, b"{}".to_vec())], "not cosign's payload"),
        (vec![another_kind], "of the kind"),
        (vec![signature(&key, payload("r.example/a/c"))], "for the name"),
        (vec![signature(&key, payload("Not A Name"))], "for the name"),
    ] {
        let error = signed.check(&signatures, &wanted, &digest()).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    let other_image = oci_image::sha256(b"another");
    let error = signed.check(&[good], &wanted, &other_image).unwrap_err().to_string();
    assert!(error.contains("another image"), "{error}");
}

const REMAP: &str =
    r#"{"type":"remapIdentity","prefix":"m.example/hub","signedPrefix":"docker.io"}"#;

#[test]
fn the_name_in_a_signature_must_fit_as_the_policy_says() {
    let key = KeyPair::generate().unwrap();
    let by_digest = format!("r.example/a@{}", digest());
    let remapped_by_digest = format!("m.example/hub/library/x@{}", digest());
    for (identity, signed_name, wanted, fits) in [
        (r#"{"type":"matchRepoDigestOrExact"}"#, "r.example/a:1", "r.example/a:1", true),
        (r#"{"type":"matchRepoDigestOrExact"}"#, "r.example/a", "r.example/a:1", false),
        (r#"{"type":"matchRepoDigestOrExact"}"#, "r.example/a:1", &by_digest, true),
        (r#"{"type":"matchExact"}"#, "r.example/a:1", &by_digest, false),
        (r#"{"type":"matchExact"}"#, "r.example/a:2", "r.example/a:1", false),
        (r#"{"type":"matchRepository"}"#, "r.example/a:2", "r.example/a:1", true),
        (
            r#"{"type":"exactReference","dockerReference":"o.example/x:1"}"#,
            "o.example/x:1",
            "r.example/a:1",
            true,
        ),
        (
            r#"{"type":"exactReference","dockerReference":"o.example/x:1"}"#,
            "o.example/x:2",
            "r.example/a:1",
            false,
        ),
        (
            r#"{"type":"exactRepository","dockerRepository":"o.example/x"}"#,
            "o.example/x:2",
            "r.example/a:1",
            true,
        ),
        (
            r#"{"type":"exactRepository","dockerRepository":"o.example/x"}"#,
            "r.example/a:1",
            "r.example/a:1",
            false,
        ),
        (
            r#"{"type":"remapIdentity","prefix":"m.example/hub","signedPrefix":"docker.io"}"#,
            "docker.io/library/x:1",
            "m.example/hub/library/x:1",
            true,
        ),
        (
            r#"{"type":"remapIdentity","prefix":"m.example/hub","signedPrefix":"docker.io"}"#,
            "docker.io/library/x:1",
            "m.example/hubs/library/x:1",
            false,
        ),
        (r#"{"type":"matchRepoDigestOrExact"}"#, "r.example/a", &by_digest, false),
        (r#"{"type":"matchDigest"}"#, "elsewhere.example/b", "r.example/a:1", true),
        (REMAP, "docker.io/library/x:2", "m.example/hub/library/x:1", false),
        (REMAP, "docker.io/library/x", "m.example/hub/library/x:1", false),
        (REMAP, "m.example/hub/library/x:1", "m.example/hub/library/x:1", false),
        (REMAP, "docker.io/library/x:2", &remapped_by_digest, true),
        (REMAP, "docker.io/library/y:2", &remapped_by_digest, false),
        (REMAP, "r.example/a:1", "r.example/a:1", true),
        (REMAP, "r.example/a:2", "r.example/a:1", false),
        (REMAP, "r.example/a", "r.example/a:1", false),
        (REMAP, "r.example/b:1", "r.example/a:1", false),
        (REMAP, "r.example/a:2", &by_digest, true),
    ] {
        let signed = by_key(&key, &serde_json::from_str(identity).unwrap());
        let signature = signature(&key, payload(signed_name));
        let wanted = Reference::parse(wanted).unwrap();
        let got = signed.check(&[signature], &wanted, &digest());
        assert_eq!(got.is_ok(), fits, "{identity} {signed_name} {wanted}: {got:?}");
    }
}

impl Sigstore {
    fn bundle(&self, message: &[u8], signature: &str, at: u64) -> String {
        self.bundle_of(&self.leaf, message, signature, at)
    }

    /// What the log promises of a signature whose certificate is `leaf`.
    fn bundle_of(&self, leaf: &str, message: &[u8], signature: &str, at: u64) -> String {
        let hash = oci_image::sha256(message);
        let entry = serde_json::json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": { "hash": { "algorithm": "sha256", "value": hash.hex() } },
                "signature": { "content": signature, "publicKey": { "content": data(leaf) } },
            },
        });
        let (body, promise) = self.promise(&entry, at);
        let payload = serde_json::json!({ "body": body, "integratedTime": at, "logID": "c0d2", "logIndex": 7 });
        serde_json::json!({ "SignedEntryTimestamp": promise, "Payload": payload }).to_string()
    }

    fn signature(&self, at: u64) -> Signature {
        let plain = signature(&self.key, payload("r.example/a"));
        let bundle = self.bundle(&plain.payload, &plain.signature, at);
        Signature { certificate: Some(self.leaf.clone()), bundle: Some(bundle), ..plain }
    }
}

#[test]
fn a_certificate_of_the_authority_stands_for_a_key_while_the_log_says_that_it_was_good() {
    let store = Sigstore::new(ExtendedKeyUsagePurpose::CodeSigning);
    let wanted = Reference::parse("r.example/a:1").unwrap();
    let check = |signed: &Signed, signature: Signature| {
        signed.check(&[signature], &wanted, &digest()).map_err(|e| e.to_string())
    };
    let signed = store.demand("https://id.example.com", "me@example.com", "matchRepository");
    assert_eq!(check(&signed, store.signature(WITHIN)), Ok(()));

    let other = Sigstore::new(ExtendedKeyUsagePurpose::CodeSigning);
    let servers = Sigstore::new(ExtendedKeyUsagePurpose::ServerAuth);
    let good = store.signature(WITHIN);
    let of_another_log = Signature { bundle: other.signature(WITHIN).bundle, ..good.clone() };
    let logged_otherwise = Signature {
        bundle: Some(store.bundle(b"another", &good.signature, WITHIN)),
        ..good.clone()
    };
    // The first of them is the one that the log has, the last one that the authority gave: nobody may
    // read one and then the other.
    let two = format!("{}{}", store.leaf, store.leaf);
    let two_certificates = Signature { certificate: Some(two.clone()), ..good.clone() };
    let bundle = store.bundle_of(&two, &good.payload, &good.signature, WITHIN);
    let two_logged = Signature { bundle: Some(bundle), ..good.clone() };
    for (signed, signature, part) in [
        (
            &store.demand("https://else.example", "me@example.com", "matchRepository"),
            good.clone(),
            "not known to",
        ),
        (
            &store.demand("https://id.example.com", "you@example.com", "matchRepository"),
            good.clone(),
            "not by you",
        ),
        (&signed, store.signature(1), "not accepted"),
        (&signed, Signature { bundle: None, ..good.clone() }, "no promise"),
        (&signed, Signature { certificate: None, ..good.clone() }, "no certificate"),
        (
            &signed,
            Signature { certificate: Some("x".into()), ..good.clone() },
            "not one certificate",
        ),
        (&signed, Signature { certificate: Some(other.leaf.clone()), ..good.clone() }, "another"),
        (&signed, two_certificates, "not one certificate"),
        (&signed, two_logged, "another signature"),
        (&signed, of_another_log, "known log"),
        (&signed, logged_otherwise, "another signature"),
        (&signed, other.signature(WITHIN), "known log"),
        (
            &servers.demand("https://id.example.com", "me@example.com", "matchRepository"),
            servers.signature(WITHIN),
            "not accepted",
        ),
    ] {
        let error = check(signed, signature).unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_key_may_need_the_log_too() {
    let store = Sigstore::new(ExtendedKeyUsagePurpose::CodeSigning);
    let signed = demand(&serde_json::json!({
        "keyData": data(&public(&store.key)),
        "rekorPublicKeyData": data(&public(&store.log)),
        "signedIdentity": { "type": "matchRepository" },
    }));
    let plain = signature(&store.key, payload("r.example/a"));
    let wanted = Reference::parse("r.example/a:1").unwrap();
    let error =
        signed.check(std::slice::from_ref(&plain), &wanted, &digest()).unwrap_err().to_string();
    assert!(error.contains("no promise"), "{error}");
    // The log has the certificate where the key should be.
    let bundle = store.bundle(&plain.payload, &plain.signature, WITHIN);
    let with = Signature { bundle: Some(bundle), ..plain };
    let error = signed.check(&[with], &wanted, &digest()).unwrap_err().to_string();
    assert!(error.contains("another signature"), "{error}");
}
