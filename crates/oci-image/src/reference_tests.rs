use proptest::prelude::*;

use super::*;

const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn names_are_completed_the_way_docker_does() {
    for (text, want) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("Index.docker.io/user/app:a", "docker.io/user/app:a"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("localhost:5000/a/b/c:t", "localhost:5000/a/b/c:t"),
        ("[::1]:5000/app:t", "[::1]:5000/app:t"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        // In lower case it would be a user of docker.io.
        ("MyHost/app", "MyHost/app:latest"),
        ("127.0.0.1:5000/a__b.c-d--e:T_1.x-", "127.0.0.1:5000/a__b.c-d--e:T_1.x-"),
    ] {
        assert_eq!(Reference::parse(text).unwrap().to_string(), want, "{text}");
    }
}

#[test]
fn a_digest_wins_over_a_tag_and_no_tag_is_implied_beside_it() {
    let r = Reference::parse(&format!("quay.io/a/b:v1@sha256:{HASH}")).unwrap();
    assert_eq!((r.registry(), r.repository(), r.tag()), ("quay.io", "a/b", Some("v1")));
    assert_eq!(r.version(), format!("sha256:{HASH}"));
    assert_eq!(r.to_string(), format!("quay.io/a/b:v1@sha256:{HASH}"));
    let bare = Reference::parse(&format!("a@sha256:{HASH}")).unwrap();
    assert_eq!((bare.tag(), bare.tagged()), (None, None));
    assert_eq!(bare.with_digest(bare.digest().unwrap()), bare.to_string());
}

#[test]
fn what_is_not_a_reference_is_refused_with_the_reason() {
    for (text, says) in [
        ("", "empty"),
        (HASH, "image id"),
        (&format!("sha256:{HASH}"), "image id"),
        ("Busybox", "upper-case"),
        ("docker.io/library/BusyBox", "upper-case"),
        ("busybox:", "tag"),
        (&format!("busybox:{}", "a".repeat(129)), "128"),
        ("busybox:-a", "tag"),
        ("busybox@sha256:abc", "digest"),
        (&format!("busybox@sha256:{HASH}@sha256:{HASH}"), "digest"),
        ("a//b", "repository"),
        ("a/../b", "repository"),
        ("/a", "repository"),
        ("a/", "repository"),
        ("a___b", "repository"),
        ("a..b/c", "host"),
        ("a.b:x/c", "port"),
        ("a.b:99999/c", "port"),
        ("-a.b/c", "host"),
        ("[::1/c", "host"),
        ("https://docker.io/a", "port"),
        (" busybox", "repository"),
        ("büsybox", "repository"),
        (&format!("x.io/{}", "a".repeat(251)), "255"),
    ] {
        let e = Reference::parse(text).unwrap_err();
        assert!(e.reason.contains(says), "{text:?} gave {e}");
    }
}

#[test]
fn a_message_repeats_no_user_and_password() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for (text, said) in [
        ("Busy Box", "Busy Box"),
        ("busybox@sha256:abc", "busybox@sha256:abc"),
        ("user:pass@quay.io/x:1", "[secret]@quay.io/x:1"),
        ("user:pass@quay.io:5000", "[secret]@quay.io:5000"),
        ("https://user:p/a@ss@quay.io/x", "https://[secret]@quay.io/x"),
        (&format!("token@quay.io/x@{digest}"), &format!("[secret]@quay.io/x@{digest}")),
        ("https://quay.io/x", "https://quay.io/x"),
    ] {
        assert_eq!(shown(text), said);
        let error = Reference::parse(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    assert_eq!(shown(&"é".repeat(400)).chars().count(), 300);
}

proptest! {
    #[test]
    fn a_full_reference_reads_back_as_itself(
        host in "([a-z][a-z0-9]{0,5}\\.[a-z]{2,4}|localhost)(:[1-9][0-9]{0,3})?",
        path in "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,6}){0,3}",
        tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"),
        digest in proptest::option::of("[0-9a-f]{64}"),
    ) {
        let mut text = format!("{host}/{path}");
        if let Some(t) = &tag { text.push_str(&format!(":{t}")); }
        if let Some(d) = &digest { text.push_str(&format!("@sha256:{d}")); }
        let r = Reference::parse(&text).unwrap();
        prop_assert_eq!((r.registry(), r.repository()), (host.as_str(), path.as_str()));
        prop_assert_eq!(r.digest().map(|d| d.hex().to_owned()), digest.clone());
        let again = Reference::parse(&r.to_string()).unwrap();
        prop_assert_eq!(again, r);
    }

    #[test]
    fn any_text_is_either_refused_or_a_fixed_point(text in ".{0,80}") {
        if let Ok(r) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&r.to_string()).unwrap(), r);
        }
    }

    #[test]
    fn texts_of_the_alphabet_of_references_are_refused_or_a_fixed_point(
        text in "[a-zA-Z0-9./:@_\\[\\]-]{0,40}") {
        if let Ok(r) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&r.to_string()).unwrap(), r);
        }
    }
}
