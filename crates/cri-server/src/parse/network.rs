//! DNS settings, host ports, host name.

use std::net::IpAddr;

use cri_api::v1;
use model::{Dns, PortMapping, Protocol};

use super::text::word;
use super::{At, BadField};

/// The longest host name that Linux has, in bytes (sethostname(2)).
const MAX_HOSTNAME: usize = 64;

/// A host name; empty for the host's.
pub(super) fn hostname(at: At<'_>, given: &str) -> Result<String, BadField> {
    let ok = given.len() <= MAX_HOSTNAME
        && given.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if ok {
        Ok(given.to_owned())
    } else {
        Err(at.bad(given, "at most 64 letters, digits, '-', '_' and '.' are allowed"))
    }
}

/// What goes to resolv.conf; `None`, the host's, where nothing at all is given.
pub(super) fn dns(at: At<'_>, given: Option<&v1::DnsConfig>) -> Result<Option<Dns>, BadField> {
    let Some(given) = given else { return Ok(None) };
    let words = |name: &'static str, list: &[String]| -> Result<Vec<String>, BadField> {
        list.iter().enumerate().map(|(index, text)| word(at.nth(name, index), text)).collect()
    };
    // What they have to be comes before what no line may have in it.
    for (index, server) in given.servers.iter().enumerate() {
        let address = server.split_once('%').map_or(server.as_str(), |(address, _zone)| address);
        if address.parse::<IpAddr>().is_err() {
            return Err(at.nth("servers", index).bad(server, "an IP address is needed"));
        }
    }
    let dns = Dns {
        servers: words("servers", &given.servers)?,
        searches: words("searches", &given.searches)?,
        options: words("options", &given.options)?,
    };
    Ok(Some(dns).filter(|dns| *dns != Dns::default()))
}

/// Host ports. An entry without one asks for nothing and is dropped.
pub(super) fn port_mappings(
    at: At<'_>,
    given: &[v1::PortMapping],
) -> Result<Vec<PortMapping>, BadField> {
    let mut mappings = Vec::with_capacity(given.len());
    for (index, one) in given.iter().enumerate().filter(|(_, one)| one.host_port != 0) {
        let at = at.nth("port_mappings", index);
        mappings.push(PortMapping {
            protocol: protocol(at.to("protocol"), one.protocol)?,
            container_port: port(at.to("container_port"), one.container_port)?,
            host_port: port(at.to("host_port"), one.host_port)?,
            host_ip: match one.host_ip.as_str() {
                "" => None,
                text => Some(
                    text.parse()
                        .map_err(|_| at.to("host_ip").bad(text, "an IP address is needed"))?,
                ),
            },
        });
    }
    Ok(mappings)
}

fn protocol(at: At<'_>, given: i32) -> Result<Protocol, BadField> {
    match v1::Protocol::try_from(given) {
        Ok(v1::Protocol::Tcp) => Ok(Protocol::Tcp),
        Ok(v1::Protocol::Udp) => Ok(Protocol::Udp),
        Ok(v1::Protocol::Sctp) => Ok(Protocol::Sctp),
        Err(_) => Err(at.bad(given, "TCP, UDP or SCTP is needed")),
    }
}

fn port(at: At<'_>, given: i32) -> Result<u16, BadField> {
    u16::try_from(given)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| at.bad(given, "a port from 1 to 65535 is needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_without_content_are_the_hosts() {
        let at = At::field("dns_config");
        assert_eq!(dns(at, None).unwrap(), None);
        assert_eq!(dns(at, Some(&v1::DnsConfig::default())).unwrap(), None);
    }

    #[test]
    fn nothing_can_add_a_line_to_resolv_conf() {
        let at = At::field("dns_config");
        let list = |text: &str| vec![text.to_owned()];
        for (field, given) in [
            ("dns_config.servers[0]", v1::DnsConfig { servers: list("dns"), ..Default::default() }),
            (
                "dns_config.searches[0]",
                v1::DnsConfig { searches: list("a\nnameserver 1.1.1.1"), ..Default::default() },
            ),
            ("dns_config.options[0]", v1::DnsConfig { options: list(""), ..Default::default() }),
        ] {
            assert_eq!(dns(at, Some(&given)).unwrap_err().field, field);
        }
        let blank = v1::DnsConfig { servers: list("not an ip"), ..Default::default() };
        let bad = dns(at, Some(&blank)).unwrap_err();
        assert_eq!(bad.expected, "an IP address is needed");
        let zone = v1::DnsConfig { servers: list("fe80::1%a b"), ..Default::default() };
        assert!(dns(at, Some(&zone)).is_err());
        let scoped = v1::DnsConfig { servers: list("fe80::1%eth0"), ..Default::default() };
        assert!(dns(at, Some(&scoped)).is_ok());
    }

    #[test]
    fn only_entries_with_a_host_port_count_and_those_must_be_whole() {
        let at = At::field("config");
        let entry = |container_port, host_port, host_ip: &str, protocol| v1::PortMapping {
            protocol,
            container_port,
            host_port,
            host_ip: host_ip.into(),
        };
        let got = port_mappings(at, &[entry(80, 0, "", 0), entry(80, 8080, "::1", 1)]).unwrap();
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].protocol, Protocol::Udp);
        for (given, field) in [
            (entry(0, 8080, "", 0), "config.port_mappings[0].container_port"),
            (entry(80, 70_000, "", 0), "config.port_mappings[0].host_port"),
            (entry(80, -1, "", 0), "config.port_mappings[0].host_port"),
            (entry(80, 80, "localhost", 0), "config.port_mappings[0].host_ip"),
            (entry(80, 80, "", 9), "config.port_mappings[0].protocol"),
        ] {
            assert_eq!(port_mappings(at, &[given]).unwrap_err().field, field);
        }
    }

    #[test]
    fn host_names_are_at_most_what_the_kernel_takes() {
        let at = At::field("hostname");
        assert!(hostname(at, "").is_ok() && hostname(at, "web-0.svc").is_ok());
        assert!(hostname(at, &"a".repeat(65)).is_err() && hostname(at, "a b").is_err());
    }
}
