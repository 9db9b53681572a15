use std::collections::BTreeMap;

use oci_image::Reference;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::Signed;
use crate::testing::{Sigstore, WITHIN, by_key, data, demand, digest, public, sign};

const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

fn statement() -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": digest().hex() } }],
        "predicateType": SIGN,
        "predicate": {},
    })
}

/// The statement with something else in it.
fn changed(at: &str, to: Value) -> Value {
    let mut all = statement();
    *all.pointer_mut(at).expect("it is there") = to;
    all
}

fn bundle_of_type(key: &KeyPair, kind: &str, statement: &Value) -> Value {
    let payload = statement.to_string();
    let signature = sign(key, &encoding(kind, payload.as_bytes()));
    json!({
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": { "publicKey": { "hint": "whatever" }, "tlogEntries": [] },
        "dsseEnvelope": {
            "payload": data(&payload),
            "payloadType": kind,
            "signatures": [{ "sig": signature, "keyid": "" }],
        },
    })
}

fn bundle(key: &KeyPair, statement: &Value) -> Value {
    bundle_of_type(key, PAYLOAD_TYPE, statement)
}

fn wanted() -> Reference {
    Reference::parse("r.example/a:1").unwrap()
}

/// What a demand says to one bundle.
fn check(signed: &Signed, bundle: &Value) -> Result<(), String> {
    let bundle = Bundle::parse(bundle.to_string().as_bytes()).map_err(|e| e.to_string())?;
    signed.check_bundles(&[bundle], &wanted(), &digest()).map_err(|e| e.to_string())
}

fn refused(signed: &Signed, cases: Vec<(Value, &str)>) {
    for (bundle, part) in cases {
        let error = check(signed, &bundle).expect_err(part);
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn what_is_signed_is_the_type_and_the_payload_with_their_lengths() {
    // The example of the DSSE protocol.
    let message = encoding("http://example.com/HelloWorld", b"hello world");
    assert_eq!(message, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

#[test]
fn a_statement_about_the_image_by_the_right_key_counts_and_nothing_else() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let signed = by_key(&key, &json!({ "type": "matchDigest" }));
    assert_eq!(check(&signed, &bundle(&key, &statement())), Ok(()));
    let with = |at: &str, to: Value| {
        let mut all = bundle(&key, &statement());
        *all.pointer_mut(at).expect("it is there") = to;
        all
    };
    let two = statement()["subject"][0].clone();
    let other_image = json!({ "sha256": oci_image::sha256(b"another").hex() });
    let attestation = json!("https://slsa.dev/provenance/v1");
    let altered = changed("/subject/0/digest", other_image.clone()).to_string();
    refused(
        &signed,
        vec![
            (bundle(&other, &statement()), "not signed by a key"),
            // Signed for another image, then altered, and the other way round.
            (with("/dsseEnvelope/payload", json!(data(&altered))), "not signed by a key"),
            (bundle(&key, &changed("/subject/0/digest", other_image)), "another image"),
            (
                bundle(&key, &changed("/subject/0/digest", json!({ "sha512": digest().hex() }))),
                "another image",
            ),
            (bundle(&key, &changed("/subject", json!([]))), "about 0 things"),
            (bundle(&key, &changed("/subject", json!([two, two]))), "about 2 things"),
            (bundle(&key, &changed("/predicateType", attestation)), "no signature but"),
            (bundle(&key, &changed("/_type", json!("https://in-toto.io/Statement/v0.1"))), "kind"),
            (bundle(&key, &json!({ "critical": {} })), "no in-toto statement"),
            (bundle_of_type(&key, "text/plain", &statement()), "no in-toto statement"),
            // The type is signed too.
            (
                {
                    let mut all = bundle_of_type(&key, "text/plain", &statement());
                    all["dsseEnvelope"]["payloadType"] = json!(PAYLOAD_TYPE);
                    all
                },
                "not signed by a key",
            ),
            (with("/dsseEnvelope/signatures", json!([])), "exactly one signature"),
            (with("/dsseEnvelope/signatures/0/sig", json!("%")), "not base64"),
            (with("/dsseEnvelope/payload", json!("%")), "not base64"),
            (with("/dsseEnvelope", Value::Null), "no statement in an envelope"),
            (with("/mediaType", json!("application/json")), "another version"),
            (with("/verificationMaterial", Value::Null), "no bundle"),
        ],
    );
    // One good one among others is enough; none is none.
    let parse = |value: Value| Bundle::parse(value.to_string().as_bytes()).unwrap();
    let both = [parse(bundle(&other, &statement())), parse(bundle(&key, &statement()))];
    assert_eq!(signed.check_bundles(&both, &wanted(), &digest()), Ok(()));
    assert!(signed.check_bundles(&[], &wanted(), &digest()).is_err());
}

#[test]
fn a_message_signature_is_none_of_cosigns_on_an_image() {
    let key = KeyPair::generate().unwrap();
    let signature = sign(&key, b"manifest");
    let bundle = json!({
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": { "publicKey": { "hint": "x" } },
        "messageSignature": {
            "messageDigest": { "algorithm": "SHA2_256", "digest": "" }, "signature": signature,
        },
    });
    let error = check(&by_key(&key, &json!({ "type": "matchDigest" })), &bundle).unwrap_err();
    assert!(error.contains("no statement in an envelope"), "{error}");
}

#[test]
fn a_policy_that_wants_a_name_takes_no_statement_without_one() {
    let key = KeyPair::generate().unwrap();
    for identity in [
        json!({ "type": "matchRepoDigestOrExact" }),
        json!({ "type": "matchExact" }),
        json!({ "type": "matchRepository" }),
        json!({ "type": "exactRepository", "dockerRepository": "r.example/a" }),
    ] {
        let signed = by_key(&key, &identity);
        let error = check(&signed, &bundle(&key, &statement())).unwrap_err();
        assert!(error.contains("under no name"), "{identity}: {error}");
    }
    let named = |name: &str| {
        let digest = json!({ "sha256": digest().hex() });
        changed("/subject", json!([{ "name": name, "digest": digest }]))
    };
    let signed = by_key(&key, &json!({ "type": "matchRepository" }));
    assert_eq!(check(&signed, &bundle(&key, &named("r.example/a"))), Ok(()));
    let error = check(&signed, &bundle(&key, &named("r.example/b"))).unwrap_err();
    assert!(error.contains("for the name"), "{error}");
}

/// The entry that Rekor makes of an envelope.
fn entry(bundle: &Value, verifier: &str) -> Value {
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    json!({
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": { "algorithm": "sha256", "value": "00" },
            "payloadHash": { "algorithm": "sha256", "value": oci_image::sha256(&payload).hex() },
            "signatures": [{
                "signature": bundle["dsseEnvelope"]["signatures"][0]["sig"],
                "verifier": data(verifier),
            }],
        },
    })
}

/// The bundle with a log's promise of `entry`.
fn logged(store: &Sigstore, bundle: &Value, entry: &Value, at: u64) -> Value {
    let (body, promise) = store.promise(entry, at);
    let mut all = bundle.clone();
    // 64-bit numbers are texts.
    all["verificationMaterial"]["tlogEntries"] = json!([{
        "logIndex": "7",
        "logId": { "keyId": STANDARD.encode([0xc0, 0xd2]) },
        "kindVersion": { "kind": "dsse", "version": "0.0.1" },
        "integratedTime": at.to_string(),
        "inclusionPromise": { "signedEntryTimestamp": promise },
        "canonicalizedBody": body,
    }]);
    all
}

fn with_certificate(store: &Sigstore, statement: &Value) -> Value {
    let mut all = bundle(&store.key, statement);
    let certificate = json!({ "rawBytes": STANDARD.encode(&store.leaf_der) });
    all["verificationMaterial"] = json!({ "certificate": certificate });
    all
}

#[test]
fn a_certificate_stands_for_a_key_while_the_log_says_that_it_was_good() {
    let store = Sigstore::new(ExtendedKeyUsagePurpose::CodeSigning);
    let other = Sigstore::new(ExtendedKeyUsagePurpose::CodeSigning);
    let signed = store.demand("https://id.example.com", "me@example.com", "matchDigest");
    let plain = with_certificate(&store, &statement());
    let entry_of = |bundle: &Value| entry(bundle, &store.leaf);
    let good = logged(&store, &plain, &entry_of(&plain), WITHIN);
    assert_eq!(check(&signed, &good), Ok(()));
    // The same with a chain, as bundles had before.
    let mut chained = good.clone();
    let certificate = chained["verificationMaterial"]["certificate"].take();
    chained["verificationMaterial"]["x509CertificateChain"] =
        json!({ "certificates": [certificate] });
    assert_eq!(check(&signed, &chained), Ok(()));

    let mut both = chained.clone();
    both["verificationMaterial"]["certificate"] = certificate.clone();
    let with_entry = |at: &str, to: Value| {
        let mut changed = entry_of(&plain);
        *changed.pointer_mut(at).expect("it is there") = to;
        logged(&store, &plain, &changed, WITHIN)
    };
    let mut moved = good.clone();
    moved["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = json!("1700000001");
    let mut without = good.clone();
    without["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"] = Value::Null;
    let mut many = good.clone();
    let one = many["verificationMaterial"]["tlogEntries"][0].clone();
    many["verificationMaterial"]["tlogEntries"] = json!(vec![one; MOST_ENTRIES + 1]);
    let mut replaced = good.clone();
    replaced["verificationMaterial"]["certificate"]["rawBytes"] =
        json!(STANDARD.encode(&other.leaf_der));
    let foreign = with_certificate(&other, &statement());
    let mut twice = entry_of(&plain);
    let signature = twice["spec"]["signatures"][0].clone();
    twice["spec"]["signatures"] = json!([signature, signature]);
    refused(
        &signed,
        vec![
            (plain.clone(), "no promise"),
            (without, "no promise"),
            (bundle(&store.key, &statement()), "no certificate"),
            (both, "also a chain"),
            (moved, "known log"),
            (many, "more than"),
            (replaced, "another signature"),
            (logged(&other, &plain, &entry_of(&plain), WITHIN), "known log"),
            (logged(&store, &plain, &entry_of(&plain), 1), "not accepted"),
            (logged(&store, &plain, &twice, WITHIN), "cannot be read"),
            (with_entry("/spec/payloadHash/value", json!("00")), "another signature"),
            (with_entry("/spec/payloadHash/algorithm", json!("sha512")), "another signature"),
            (with_entry("/spec/signatures/0/signature", json!("AA==")), "another signature"),
            (with_entry("/spec/signatures/0/verifier", json!(data(&other.leaf))), "another"),
            (with_entry("/kind", json!("intoto")), "not read here"),
            (logged(&store, &foreign, &entry(&foreign, &other.leaf), WITHIN), "not accepted"),
        ],
    );
    for (issuer, subject, part) in [
        ("https://else.example", "me@example.com", "not known to"),
        ("https://id.example.com", "you@example.com", "not by you"),
    ] {
        refused(&store.demand(issuer, subject, "matchDigest"), vec![(good.clone(), part)]);
    }
    let servers = Sigstore::new(ExtendedKeyUsagePurpose::ServerAuth);
    let plain = with_certificate(&servers, &statement());
    let bundle = logged(&servers, &plain, &entry(&plain, &servers.leaf), WITHIN);
    let signed = servers.demand("https://id.example.com", "me@example.com", "matchDigest");
    refused(&signed, vec![(bundle, "not accepted")]);
}

#[test]
fn a_key_may_need_the_log_too() {
    let store = Sigstore::new(ExtendedKeyUsagePurpose::CodeSigning);
    let signed = demand(&json!({
        "keyData": data(&public(&store.key)),
        "rekorPublicKeyData": data(&public(&store.log)),
        "signedIdentity": { "type": "matchDigest" },
    }));
    let plain = bundle(&store.key, &statement());
    let good = logged(&store, &plain, &entry(&plain, &public(&store.key)), WITHIN);
    assert_eq!(check(&signed, &good), Ok(()));
    refused(
        &signed,
        vec![
            (plain.clone(), "no promise"),
            // The log has the certificate where the key should be.
            (logged(&store, &plain, &entry(&plain, &store.leaf), WITHIN), "another signature"),
        ],
    );
}

#[test]
fn a_list_saves_reading_what_is_no_signature() {
    let descriptor = |kind: &str, predicate: Option<&str>| {
        let mut one = Descriptor::new("application/vnd.oci.image.manifest.v1+json", digest(), 5);
        one.artifact_type = kind.to_owned();
        let predicate = predicate.map(|p| (ANNOTATION_PREDICATE.to_owned(), p.to_owned()));
        one.annotations = BTreeMap::from_iter(predicate);
        one
    };
    for (kind, predicate, may) in [
        (BUNDLE_TYPE, Some(SIGN), true),
        (BUNDLE_TYPE, None, true),
        (BUNDLE_TYPE, Some("https://slsa.dev/provenance/v1"), false),
        ("application/vnd.dev.sigstore.bundle+json; version=0.3", None, true),
        ("application/vnd.dev.sigstore.bundle+json;version=0.1", None, false),
        ("application/spdx+json", None, false),
        ("", None, true),
        (EMPTY_TYPE, None, true),
    ] {
        assert_eq!(may_be_signature(&descriptor(kind, predicate)), may, "{kind} {predicate:?}");
    }
}
