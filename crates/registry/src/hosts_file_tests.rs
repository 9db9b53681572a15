use super::*;

fn parse_in_etc(text: &str) -> Result<Vec<HostEntry>, String> {
    parse(text, Path::new("/etc/r"))
}

fn base_of(plain: bool, host: &str, path: &str) -> Option<Base> {
    Some(Base { plain, host: host.into(), path: path.into() })
}

#[test]
fn hosts_come_in_the_order_of_the_file_and_the_server_last() {
    let text = r#"
        server = "https://registry-1.docker.io"
        skip_verify = false

        [host."https://z.example:8443"]
          capabilities = ["pull", "Resolve"]
          ca = "/abs/ca.pem"

        [host."a.example/prefix"]
          capabilities = ["pull"]
          ca = ["one.pem", "two.pem"]
          client = [["c.cert", "c.key"], ["both.pem", ""], "single.pem"]
          dial_timeout = "1m30s"
          [host."a.example/prefix".header]
            x-custom = "one"
            authorization = ["Basic abc"]

        [host."http://[::1]:5000/mirror/v9/"]
          override_path = true
    "#;
    let all = parse_in_etc(text).unwrap();
    let bases: Vec<_> = all.iter().map(|e| e.base.clone()).collect();
    assert_eq!(
        bases,
        [
            base_of(false, "z.example:8443", "/v2"),
            base_of(false, "a.example", "/prefix/v2"),
            base_of(true, "[::1]:5000", "/mirror/v9"),
            base_of(false, "registry-1.docker.io", "/v2"),
        ]
    );
    assert_eq!(all[0].ca, [PathBuf::from("/abs/ca.pem")]);
    assert_eq!(all[1].capabilities, Capabilities { pull: true, resolve: false });
    assert_eq!(all[1].ca, [PathBuf::from("/etc/r/one.pem"), PathBuf::from("/etc/r/two.pem")]);
    assert_eq!(
        all[1].client,
        [
            ("/etc/r/c.cert".into(), Some("/etc/r/c.key".into())),
            ("/etc/r/both.pem".into(), None),
            ("/etc/r/single.pem".into(), None),
        ]
    );
    assert_eq!(all[1].dial_timeout, Some(Duration::from_secs(90)));
    assert_eq!(all[1].headers.len(), 2);
    assert!(!format!("{all:?}").contains("Basic abc"), "a header's value is a secret");
    assert_eq!((all[3].skip_verify, all[2].skip_verify), (Some(false), None));
}

#[test]
fn a_file_without_a_server_keeps_the_usual_host_with_the_settings_of_the_file() {
    let all = parse_in_etc("skip_verify = true\nca = 'x.pem'\nclient = 'both.pem'").unwrap();
    assert_eq!((all.len(), &all[0].base, all[0].skip_verify), (1, &None, Some(true)));
    assert_eq!(all[0].client, [("/etc/r/both.pem".into(), None)]);
    assert_eq!(parse_in_etc("").unwrap(), [HostEntry::usual()]);
}

#[test]
fn mistakes_are_named_with_their_line() {
    for (text, line, says) in [
        ("\nserver = 'ftp://x'", 2, "not an http"),
        ("server = 'https://u:p@x'", 1, "password"),
        (
            "[host.'https://m']\ncapabilities = ['fly']",
            2,
            "host \"https://m\": the capability \"fly\"",
        ),
        ("# mirror\n\n[host.'https://m']\nca = 5", 4, "ca is neither"),
        ("[host.'https://m']\nclient = [['a','b','c']]", 2, "client is neither"),
        ("[host.'https://m']\ndial_timeout = 'soon'", 2, "dial_timeout"),
        ("[host.'https://m'.header]\nx = {a = 1}", 2, "header"),
        ("[host.'https://a']\n[host.'ftp://m']", 2, "not an http"),
        ("[host.'']", 1, "without a name"),
        ("server = 'https://x'\ncapabilities = 'pull'", 2, "invalid type"),
        ("server = ", 1, ""),
        ("server = 'https://x'\n\n[host", 3, ""),
    ] {
        let e = parse_in_etc(text).unwrap_err();
        assert!(e.starts_with(&format!("line {line}: ")) && e.contains(says), "{text}: {e}");
    }
}

#[test]
fn durations_are_read_in_gos_form() {
    for (text, want) in [
        ("10s", Some(10_000)),
        ("1m30s", Some(90_000)),
        ("1.5h", Some(5_400_000)),
        ("500ms", Some(500)),
        ("10", None),
        ("", None),
        ("-5s", None),
        ("s", None),
    ] {
        assert_eq!(duration(text), want.map(Duration::from_millis), "{text:?}");
    }
}
