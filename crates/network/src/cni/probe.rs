//! The pure half of this module by itself; see [`crate::probe`].

use std::path::Path;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::args::{Extra, fill_template, stdin};
use super::conf::{self, Network};
use super::result;

/// The configuration as it is recorded.
pub(crate) fn configuration(bytes: &[u8]) -> Result<Value, String> {
    let network = conf::parse(Path::new("x.conflist"), bytes).map_err(|e| e.to_string())?;
    let kept = network.to_value();
    let again = Network::from_value(kept.clone()).map_err(|e| e.to_string());
    // What says which files belong to the network is of no use once it is recorded.
    let recorded = Network { inlined_only: false, ..network };
    assert!(again.is_ok_and(|again| again == recorded), "what is recorded means something else");
    let args = Map::from_iter([("portMappings".to_owned(), Value::Array(Vec::new()))]);
    for plugin in &recorded.plugins {
        let extra =
            Extra { capability_args: Some(&args), previous: Some(&kept), valid: Some(&kept) };
        let told: Result<Value, _> = serde_json::from_slice(&stdin(&recorded, plugin, extra));
        assert!(
            told.is_ok_and(|t| t["name"] == recorded.name.as_str()),
            "a plugin is told nothing"
        );
    }
    Ok(kept)
}

/// The result as it is recorded.
pub(crate) fn answer(bytes: &[u8]) -> Result<Value, String> {
    let _ = result::read_error(bytes);
    let _ = result::read_versions(bytes);
    let value = result::parse(bytes)?;
    let outcome = result::read(&value, "eth0")?;
    let inside = outcome.interfaces.iter().flat_map(|interface| &interface.ips);
    assert!(inside.count() == outcome.ips.len(), "an address is on no interface, or on two");
    Ok(value)
}

/// A template, filled in.
pub(crate) fn template(text: &str, ranges: &[IpNet]) -> Result<String, String> {
    fill_template(text, ranges).map_err(|e| e.to_string())
}
