//! What plugins answer: parsing, without I/O.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::depth::{DEEPEST, is_too_deep};
use crate::attachment::Interface;

/// What a result says about the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// Addresses inside, in the plugin's order.
    pub(crate) ips: Vec<IpAddr>,
    /// Interfaces inside.
    pub(crate) interfaces: Vec<Interface>,
}

#[derive(Debug, Deserialize)]
struct Current {
    #[serde(default)]
    interfaces: Option<Vec<RawInterface>>,
    #[serde(default)]
    ips: Option<Vec<RawIp>>,
}

#[derive(Debug, Deserialize)]
struct RawInterface {
    name: String,
    #[serde(default)]
    mac: Option<String>,
    #[serde(default)]
    sandbox: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RawIp {
    address: String,
    #[serde(default)]
    interface: Option<usize>,
}

/// Before 0.3.0.
#[derive(Debug, Deserialize)]
struct Old {
    #[serde(default)]
    ip4: Option<OldIp>,
    #[serde(default)]
    ip6: Option<OldIp>,
}

#[derive(Debug, Deserialize)]
struct OldIp {
    ip: String,
}

fn address(text: &str) -> Result<IpAddr, String> {
    let net: Result<IpNet, _> = text.parse();
    net.map(|net| net.addr()).map_err(|_| {
        let shown: String = text.chars().take(60).collect();
        format!("it answered {shown:?}, which is no address with a prefix length")
    })
}

/// What a plugin printed at a successful ADD.
pub(crate) fn parse(output: &[u8]) -> Result<Value, String> {
    let value = serde_json::from_slice(output).map_err(|e| {
        let shown: String = String::from_utf8_lossy(output).chars().take(80).collect();
        format!("it succeeded and printed no JSON ({e}): {shown:?}")
    })?;
    if is_too_deep(&value) {
        return Err(format!("its result is nested more than {DEEPEST} levels deep"));
    }
    Ok(value)
}

/// What this result of ADD for the interface `if_name` says. Both shapes are known by what is in them,
/// because plugins of 0.2.0 do not all say their version.
pub(crate) fn read(result: &Value, if_name: &str) -> Result<Outcome, String> {
    let wrong = |e: serde_json::Error| {
        format!("its result has another shape than the specification's: {e}")
    };
    if !result.is_object() {
        return Err("its result is not a JSON object".into());
    }
    if result.get("ip4").is_some() || result.get("ip6").is_some() {
        let old = Old::deserialize(result).map_err(wrong)?;
        let ips = [old.ip4, old.ip6]
            .into_iter()
            .flatten()
            .map(|ip| address(&ip.ip))
            .collect::<Result<Vec<_>, _>>()?;
        let interface =
            Interface { name: if_name.to_owned(), mac: String::new(), ips: ips.clone() };
        return Ok(Outcome { ips, interfaces: vec![interface] });
    }
    let current = Current::deserialize(result).map_err(wrong)?;
    let raw = current.interfaces.unwrap_or_default();
    let inside = |index: usize| {
        raw.get(index).is_some_and(|i| i.sandbox.as_deref().is_some_and(|s| !s.is_empty()))
    };
    let mut interfaces: Vec<Option<Interface>> = raw
        .iter()
        .enumerate()
        .map(|(index, found)| {
            inside(index).then(|| Interface {
                name: found.name.clone(),
                mac: found.mac.clone().unwrap_or_default(),
                ips: Vec::new(),
            })
        })
        .collect();
    let mut ips = Vec::new();
    let mut loose = Vec::new();
    for ip in current.ips.unwrap_or_default() {
        let address = address(&ip.address)?;
        match ip.interface {
            Some(index) if index >= raw.len() => {
                return Err(format!(
                    "its address {address} is on interface {index}, of {}",
                    raw.len()
                ));
            }
            Some(index) if !inside(index) => continue,
            Some(index) => interfaces[index].iter_mut().for_each(|i| i.ips.push(address)),
            None => loose.push(address),
        }
        ips.push(address);
    }
    let mut interfaces: Vec<Interface> = interfaces.into_iter().flatten().collect();
    if !loose.is_empty() {
        // An address without an interface is on the one that was asked for.
        match interfaces.iter_mut().find(|interface| interface.name == if_name) {
            Some(interface) => interface.ips.extend(loose),
            None => interfaces.push(Interface {
                name: if_name.to_owned(),
                mac: String::new(),
                ips: loose,
            }),
        }
    }
    Ok(Outcome { ips, interfaces })
}

/// An error as the specification shapes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct PluginError {
    /// Its number.
    pub(crate) code: u32,
    /// What failed.
    #[serde(default)]
    pub(crate) msg: String,
    /// More about it.
    #[serde(default)]
    pub(crate) details: String,
}

/// The error that a plugin wrote to standard output, if it is one.
pub(crate) fn read_error(output: &[u8]) -> Option<PluginError> {
    let error: PluginError = serde_json::from_slice(output).ok()?;
    (error.code != 0 || !error.msg.is_empty()).then_some(error)
}

/// The versions that a plugin's answer to VERSION lists.
pub(crate) fn read_versions(output: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Versions {
        supported_versions: Vec<String>,
    }
    serde_json::from_slice::<Versions>(output).ok().map(|versions| versions.supported_versions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn ips(outcome: &Outcome) -> Vec<String> {
        outcome.ips.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn addresses_inside_are_found_in_every_version() {
        let inside = json!({"name": "eth0", "mac": "aa:bb", "sandbox": "/run/netns/x"});
        let host = json!({"name": "veth1", "sandbox": ""});
        for (result, expected) in [
            (
                json!({"ip4": {"ip": "10.0.0.2/24"}, "ip6": {"ip": "fd00::2/64"}}),
                vec!["10.0.0.2", "fd00::2"],
            ),
            (json!({"ips": [{"version": "4", "address": "10.0.0.2/24"}]}), vec!["10.0.0.2"]),
            (
                json!({"interfaces": [host, inside], "ips": [
                    {"address": "fd00::2/64", "interface": 1}, {"address": "10.0.0.2/24", "interface": 1},
                    {"address": "192.0.2.1/24", "interface": 0}]}),
                vec!["fd00::2", "10.0.0.2"],
            ),
            (json!({"interfaces": [inside]}), vec![]),
            (json!({"ips": null, "interfaces": null}), vec![]),
            (json!({}), vec![]),
        ] {
            assert_eq!(ips(&read(&result, "eth0").unwrap()), expected, "{result}");
        }
    }

    #[test]
    fn an_address_without_an_interface_is_on_the_one_asked_for() {
        let result = json!({"interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [{"address": "10.0.0.2/24"}]});
        let outcome = read(&result, "eth0").unwrap();
        assert_eq!(outcome.interfaces[0].ips, outcome.ips);
        let bare = read(&json!({"ips": [{"address": "10.0.0.2/24"}]}), "eth1").unwrap();
        assert_eq!(bare.interfaces[0].name, "eth1");
    }

    #[test]
    fn results_of_another_shape_are_refused() {
        for bad in [
            json!([]),
            json!("x"),
            json!({"ips": [{"address": "10.0.0.2"}]}),
            json!({"ips": [{"address": "nonsense"}]}),
            json!({"ips": [{}]}),
            json!({"ips": [{"address": "10.0.0.2/24", "interface": 3}]}),
            json!({"ips": [{"address": "10.0.0.2/24", "interface": -1}]}),
            json!({"ip4": {"ip": 3}}),
            json!({"interfaces": [{}]}),
        ] {
            assert!(read(&bad, "eth0").is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_is_one_only_with_a_code_or_words() {
        let error = read_error(br#"{"cniVersion":"1.0.0","code":11,"msg":"later","details":"d"}"#);
        assert_eq!(error, Some(PluginError { code: 11, msg: "later".into(), details: "d".into() }));
        for not in [&b""[..], b"oops", b"{}", br#"{"code":0}"#, br#"{"code":"7"}"#] {
            assert_eq!(read_error(not), None);
        }
    }

    proptest! {
        #[test]
        fn no_result_makes_the_reader_panic(
            address in "\\PC{0,20}", interface in proptest::option::of(0..5_usize), n in 0..3_usize,
        ) {
            let interfaces = vec![json!({"name": "e", "sandbox": "s"}); n];
            let _ = read(&json!({"interfaces": interfaces, "ips": [{"address": address, "interface": interface}]}), "e");
        }

        #[test]
        fn no_bytes_make_the_error_reader_panic(bytes: Vec<u8>) {
            let _ = (read_error(&bytes), read_versions(&bytes));
        }
    }
}
