use proptest::prelude::*;

use super::*;
use crate::config::ImageConfig;
use crate::hash::sha256;

fn descriptor(t: &str, content: &str) -> String {
    format!(
        r#"{{"mediaType":"{t}","digest":"{}","size":{}}}"#,
        sha256(content.as_bytes()),
        content.len()
    )
}

fn image() -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        types::OCI_MANIFEST,
        descriptor(types::OCI_CONFIG, "{}"),
        descriptor(types::OCI_LAYER_GZIP, "layer"),
    )
}

fn index(entries: &[(&str, &str, &str)]) -> Index {
    let manifests = entries
        .iter()
        .map(|(arch, variant, content)| Descriptor {
            platform: (!arch.is_empty()).then(|| Platform {
                os: "linux".into(),
                architecture: (*arch).into(),
                variant: (*variant).into(),
            }),
            ..Descriptor::new(types::OCI_MANIFEST, sha256(content.as_bytes()), 1)
        })
        .collect();
    Index { media_type: types::OCI_INDEX.into(), manifests, annotations: BTreeMap::new() }
}

#[test]
fn a_manifest_is_read_with_its_layers_in_order() {
    let m = Manifest::parse(image().as_bytes(), Some(types::OCI_MANIFEST)).unwrap();
    let Manifest::Image(m) = m else { panic!("an index?") };
    assert_eq!((m.layers.len(), m.total_size(), m.is_image()), (1, 7, true));
    assert_eq!(Manifest::parse(&m.to_json(), None).unwrap(), Manifest::Image(m));
}

#[test]
fn documents_with_two_meanings_are_refused() {
    let d = descriptor(types::OCI_CONFIG, "{}");
    for (bad, says) in [
        (format!(r#"{{"schemaVersion":2,"config":{d},"layers":[],"manifests":[]}}"#), "two ways"),
        (format!(r#"{{"schemaVersion":2,"layers":[{d}],"manifests":[{d}]}}"#), "two ways"),
        (format!(r#"{{"schemaVersion":2,"config":{d}}}"#), "no layers"),
        (r#"{"schemaVersion":2}"#.into(), "neither"),
        (format!(r#"{{"schemaVersion":2,"config":{d},"config":{d},"layers":[]}}"#), "twice"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), "schema 1"),
        (r#"{"schemaVersion":3,"manifests":[]}"#.into(), "version 3"),
        (
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
                types::OCI_MANIFEST
            ),
            "an index",
        ),
        (image().replace("\"size\":5", "\"size\":-5"), "not valid"),
        (image().replace("\"size\":5", "\"size\":18446744073709551615"), "more than any"),
        (image().replace("sha256:", "sha256:../"), "not valid"),
    ] {
        let e = Manifest::parse(bad.as_bytes(), None).unwrap_err().to_string();
        assert!(e.contains(says), "{bad}\ngave: {e}");
    }
}

#[test]
fn the_announced_type_must_be_the_type_of_the_document() {
    let image = image();
    for ok in [
        None,
        Some("application/json"),
        Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
    ] {
        assert!(Manifest::parse(image.as_bytes(), ok).is_ok(), "{ok:?}");
    }
    for bad in [types::OCI_INDEX, types::DOCKER_MANIFEST, "text/html"] {
        let e = Manifest::parse(image.as_bytes(), Some(bad)).unwrap_err();
        assert!(matches!(e, BadManifest::TypeMismatch { .. }), "{bad}: {e}");
    }
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    assert!(matches!(Manifest::parse(b"{}", Some(old)), Err(BadManifest::SchemaOne)));
}

#[test]
fn limits_hold_for_layers_manifests_and_bytes() {
    let layer = descriptor(types::OCI_LAYER, "x");
    let many = vec![layer.as_str(); MAX_LAYERS + 1].join(",");
    let doc = format!(r#"{{"schemaVersion":2,"config":{layer},"layers":[{many}]}}"#);
    assert!(matches!(Manifest::parse(doc.as_bytes(), None), Err(BadManifest::TooMany { .. })));
    let big = vec![b' '; usize::try_from(MAX_MANIFEST).unwrap() + 1];
    assert!(matches!(Manifest::parse(&big, None), Err(BadManifest::TooLarge { .. })));
}

#[test]
fn the_best_platform_that_the_host_can_run_is_chosen() {
    let host = |a, v| Platform::new("linux", a, v);
    let i =
        index(&[("arm", "v6", "6"), ("arm", "v7", "7"), ("arm64", "v8", "64"), ("amd64", "", "x")]);
    for (platform, want) in [
        (host("arm", "v7"), Some("7")),
        (host("arm", "v8"), Some("7")),
        (host("arm", "v6"), Some("6")),
        (host("arm", "v5"), None),
        (host("arm64", ""), Some("64")),
        (host("amd64", ""), Some("x")),
        (host("amd64", "v3"), Some("x")),
        (host("s390x", ""), None),
    ] {
        let got = i.choose(&platform).map(|d| d.digest.clone());
        assert_eq!(got, want.map(|w| sha256(w.as_bytes())), "{platform}");
    }
    let plain = index(&[("", "", "any"), ("arm", "v7", "7")]);
    assert_eq!(plain.choose(&host("amd64", "")).unwrap().digest, sha256(b"any"));
}

#[test]
fn attestations_are_never_chosen() {
    let mut i = index(&[("amd64", "", "attestation"), ("amd64", "", "image")]);
    i.manifests[0]
        .annotations
        .insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
    assert_eq!(i.choose(&Platform::new("linux", "amd64", "")).unwrap().digest, sha256(b"image"));
}

/// JSON-like documents out of the keys and values that manifests and configurations have.
fn document() -> impl Strategy<Value = String> {
    let digest = format!("\"{}\"", sha256(b""));
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("2".to_owned()),
        Just("-1".to_owned()),
        Just("\"\"".to_owned()),
        Just(digest),
        Just(format!("\"{}\"", types::OCI_MANIFEST)),
        Just(format!("\"{}\"", types::OCI_INDEX)),
        Just("\"layers\"".to_owned()),
    ];
    let key = proptest::sample::select(vec![
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "digest",
        "size",
        "platform",
        "os",
        "architecture",
        "annotations",
        "rootfs",
        "type",
        "diff_ids",
        "User",
        "Env",
        "Labels",
        "Volumes",
        "fsLayers",
    ]);
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|v| format!("[{}]", v.join(","))),
            proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| {
                let all: Vec<_> = pairs.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                format!("{{{}}}", all.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_document_is_refused_or_keeps_its_meaning(text in document()) {
        let _ = ImageConfig::parse(text.as_bytes());
        if let Ok(m) = Manifest::parse(text.as_bytes(), None) {
            let again = match &m {
                Manifest::Image(i) => i.to_json(),
                Manifest::Index(i) => i.to_json(),
            };
            prop_assert_eq!(Manifest::parse(&again, Some(m.media_type())).unwrap(), m);
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Manifest::parse(&bytes, None);
        let _ = ImageConfig::parse(&bytes);
    }
}
