//! What networks of pods need.

use std::path::Path;

use super::finding::Finding;
use super::host::Host;
use crate::config::NetworkChoice;

pub fn look(host: &Host, network: &NetworkChoice) -> Vec<Finding> {
    match network {
        NetworkChoice::None => {
            vec![Finding::good("network", "pods have loopback only, as network.mode says")]
        }
        NetworkChoice::Bridge { name, .. } => bridge(host, name),
        NetworkChoice::Cni(cni) => {
            plugins(&cni.config_dir, &cni.plugin_dirs, cni.template.is_some())
        }
    }
}

fn bridge(host: &Host, name: &str) -> Vec<Finding> {
    if host.has(&format!("/sys/class/net/{name}"))
        && !host.has(&format!("/sys/class/net/{name}/bridge"))
    {
        let said = format!("a link {name} is there that is no bridge");
        return vec![Finding::bad(
            "network",
            said,
            "set network.bridge.name to a name that is free",
        )];
    }
    vec![Finding::good("network", format!("the built-in bridge {name}"))]
}

/// Plugins that the configuration files name, as far as they can be read here; the daemon reads them all.
fn plugins(directory: &Path, places: &[std::path::PathBuf], has_template: bool) -> Vec<Finding> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            ["conf", "conflist", "json"].contains(&ending)
        })
        .collect();
    files.sort();
    let Some(first) = files.first() else {
        let said = format!("no CNI configuration in {}", directory.display());
        let advice = if has_template {
            "it is made from network.cni.template when the kubelet tells the node's range"
        } else {
            "install a network for the cluster, which puts one there, or set network.mode to bridge"
        };
        return vec![Finding::bad("network", said, advice)];
    };
    let text = std::fs::read_to_string(first).unwrap_or_default();
    let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else {
        let said = format!("{} is no JSON", first.display());
        return vec![Finding::bad("network", said, "`isopod status` tells the line")];
    };
    let listed = value["plugins"].as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let kinds = listed.iter().filter_map(|plugin| plugin["type"].as_str());
    let mut findings = Vec::new();
    for kind in kinds {
        if !places.iter().any(|place| place.join(kind).is_file()) {
            let searched: Vec<String> =
                places.iter().map(|one| one.display().to_string()).collect();
            let said = format!("the CNI plugin {kind} is not in {}", searched.join(", "));
            let advice = "install it (containernetworking-plugins), or name its place in network.cni.plugin_dirs";
            findings.push(Finding::bad("network", said, advice));
        }
    }
    if findings.is_empty() {
        let name = value["name"].as_str().unwrap_or("without a name");
        let said = format!("network {name:?} of {}, all plugins are there", first.display());
        findings.push(Finding::good("network", said));
    }
    findings
}

/// Whether packets leave the node.
pub fn forwarding(host: &Host) -> Finding {
    let off: Vec<&str> = [("ipv4/ip_forward", "IPv4"), ("ipv6/conf/all/forwarding", "IPv6")]
        .into_iter()
        .filter(|(key, _)| host.number(&format!("/proc/sys/net/{key}")) == Some(0))
        .map(|(_, family)| family)
        .collect();
    if off.is_empty() {
        return Finding::good("forwarding", "packets are forwarded between pods and the outside");
    }
    let said = format!("the kernel does not forward {} packets", off.join(" and "));
    let advice =
        "the built-in bridge switches it on; for CNI set net.ipv4.ip_forward=1 with sysctl";
    Finding::warning("forwarding", said, advice)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn a_missing_plugin_and_a_missing_configuration_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let places = [at.join("bin")];
        assert_eq!(plugins(at, &places, false)[0].grade, Grade::Bad);
        let list = r#"{"name":"n","plugins":[{"type":"bridge"},{"type":"portmap"}]}"#;
        std::fs::write(at.join("10-n.conflist"), list).unwrap();
        let told = plugins(at, &places, false);
        assert!(told.len() == 2 && told[0].said.contains("bridge"), "{told:?}");
        std::fs::create_dir(at.join("bin")).unwrap();
        for kind in ["bridge", "portmap"] {
            std::fs::write(at.join("bin").join(kind), "").unwrap();
        }
        assert_eq!(plugins(at, &places, false)[0].grade, Grade::Good);
        std::fs::write(at.join("00-bad.conf"), "{").unwrap();
        assert!(plugins(at, &places, false)[0].said.contains("no JSON"));
    }
}
