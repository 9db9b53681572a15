//! What plugins are told: environment, capability arguments, configuration. Without I/O.

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::conf::{Network, Plugin};
use crate::attachment::Attachment;
use crate::error::NetworkError;
use crate::limits::Limits;

/// What the bandwidth plugin takes as "as much as there is"; burst is not a limit that Kubernetes has.
const BURST: u32 = u32::MAX;
/// The annotation by which a pod asks for an InfiniBand GUID.
const INFINIBAND: &str = "isopod.dev/infiniband-guid";

/// CNI_ARGS of a pod, as plugins for Kubernetes expect them.
pub(crate) fn cni_args(attachment: &Attachment) -> Result<Vec<(String, String)>, NetworkError> {
    let pairs = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", attachment.namespace.as_str()),
        ("K8S_POD_NAME", attachment.name.as_str()),
        ("K8S_POD_INFRA_CONTAINER_ID", attachment.sandbox.as_str()),
        ("K8S_POD_UID", attachment.uid.as_str()),
    ];
    for (name, value) in pairs {
        // A text with these would be another argument for the plugin.
        if value.contains([';', '=', '\0', '\n']) {
            return Err(NetworkError::Request {
                reason: format!(
                    "{name} for CNI plugins is {value:?}, which has ';', '=' or a line end in it"
                ),
            });
        }
    }
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
}

/// Everything that a plugin may ask for by capability.
pub(crate) fn capability_args(
    attachment: &Attachment,
    pod_cidrs: &[IpNet],
) -> Result<Map<String, Value>, NetworkError> {
    let mut all = Map::new();
    if !attachment.port_mappings.is_empty() {
        let ports = attachment.port_mappings.iter().map(|port| {
            let mut one = json!({
                "hostPort": port.host_port, "containerPort": port.container_port,
                "protocol": port.protocol.name(),
            });
            if let Some(ip) = port.host_ip {
                one["hostIP"] = ip.to_string().into();
            }
            one
        });
        all.insert("portMappings".into(), ports.collect());
    }
    let limits = Limits::read(&attachment.annotations)
        .map_err(|bad| NetworkError::Request { reason: bad.to_string() })?;
    if limits != Limits::default() {
        let mut bandwidth = Map::new();
        for (rate, burst, limit) in [
            ("ingressRate", "ingressBurst", limits.ingress),
            ("egressRate", "egressBurst", limits.egress),
        ] {
            if let Some(bits) = limit {
                bandwidth.insert(rate.into(), bits.into());
                bandwidth.insert(burst.into(), BURST.into());
            }
        }
        all.insert("bandwidth".into(), Value::Object(bandwidth));
    }
    if let Some(dns) = &attachment.dns {
        let dns = json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options});
        all.insert("dns".into(), dns);
    }
    if !pod_cidrs.is_empty() {
        let ranges: Value =
            pod_cidrs.iter().map(|cidr| json!([{"subnet": cidr.to_string()}])).collect();
        all.insert("ipRanges".into(), ranges);
    }
    all.insert("aliases".into(), json!([attachment.name]));
    if let Some(guid) = attachment.annotations.get(INFINIBAND) {
        all.insert("infinibandGUID".into(), guid.clone().into());
    }
    if let Some(parent) = &attachment.cgroup_parent {
        all.insert("cgroupPath".into(), parent.clone().into());
    }
    Ok(all)
}

/// What else goes into a plugin's configuration.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extra<'a> {
    /// What plugins may ask for.
    pub(crate) capability_args: Option<&'a Map<String, Value>>,
    /// The result of the plugin before, or of ADD.
    pub(crate) previous: Option<&'a Value>,
    /// The attachments that are in use, for GC.
    pub(crate) valid: Option<&'a Value>,
}

/// The configuration that the plugin reads from its standard input.
pub(crate) fn stdin(network: &Network, plugin: &Plugin, extra: Extra<'_>) -> Vec<u8> {
    let mut map = plugin.raw.clone();
    map.insert("name".into(), network.name.clone().into());
    map.insert("cniVersion".into(), network.version.to_string().into());
    if let Some(args) = extra.capability_args {
        let asked: Map<String, Value> = args
            .iter()
            .filter(|(name, _)| plugin.capabilities.contains(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !asked.is_empty() {
            map.insert("runtimeConfig".into(), Value::Object(asked));
        }
    }
    if let Some(previous) = extra.previous {
        map.insert("prevResult".into(), previous.clone());
    }
    if let Some(valid) = extra.valid {
        map.insert("cni.dev/valid-attachments".into(), valid.clone());
        // The key of 1.1.0's text; newer plugins read the one above.
        map.insert("cni.dev/attachments".into(), valid.clone());
    }
    Value::Object(map).to_string().into_bytes()
}

/// The `{{…}}` of a configuration template that containerd's users know, filled in.
pub(crate) fn fill_template(template: &str, cidrs: &[IpNet]) -> Result<String, NetworkError> {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    let bad = |what: &str| NetworkError::Config {
        reason: format!(
            "CNI template: {what:?} is not known ({{{{.PodCIDR}}}}, {{{{.PodCIDRRanges}}}}, {{{{.Routes}}}} are)"
        ),
    };
    let list = |items: Vec<Value>| Value::Array(items).to_string();
    while let Some(start) = rest.find("{{") {
        out.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let end = after.find("}}").ok_or_else(|| bad(after.get(..20).unwrap_or(after)))?;
        match after[..end].trim() {
            ".PodCIDR" => {
                out.push_str(&cidrs.first().map(ToString::to_string).unwrap_or_default());
            }
            ".PodCIDRRanges" => {
                out.push_str(&list(
                    cidrs.iter().map(|c| json!([{"subnet": c.to_string()}])).collect(),
                ));
            }
            ".Routes" => out.push_str(&list(
                cidrs
                    .iter()
                    .map(|c| json!({"dst": if c.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" }}))
                    .collect(),
            )),
            other => return Err(bad(other)),
        }
        rest = &after[end + 2..];
    }
    out.push_str(rest);
    Ok(out)
}
