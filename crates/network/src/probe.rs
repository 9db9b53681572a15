//! What strangers write, configurations and answers of plugins, read as it is for a sandbox and written down as its
//! record is, without a network: for fuzzing.

use std::path::Path;

use ipnet::IpNet;
use model::SandboxId;
use serde_json::{Map, Value};

use crate::cni::probe as cni;
use crate::record::{Cached, Joined, SandboxRecord};

/// What a record says, as it was written and as it is read again.
#[derive(Debug)]
pub struct Recorded {
    /// As it was written.
    pub before: Value,
    /// As it is read, or why it cannot be.
    pub after: Result<Value, String>,
}

/// Reads a configuration file, and records the network that it describes.
///
/// # Errors
/// Why it is none.
pub fn configuration(bytes: &[u8]) -> Result<Recorded, String> {
    Ok(recorded(cni::configuration(bytes)?, None))
}

/// Reads what a plugin printed at ADD, and records it.
///
/// # Errors
/// Why it is no result.
pub fn answer(bytes: &[u8]) -> Result<Recorded, String> {
    Ok(recorded(Value::Null, Some(cni::answer(bytes)?)))
}

/// Fills in a configuration template.
///
/// # Errors
/// A command that is not known.
pub fn template(text: &str, ranges: &[IpNet]) -> Result<String, String> {
    cni::template(text, ranges)
}

fn recorded(config: Value, result: Option<Value>) -> Recorded {
    let cached = Cached {
        kind: Cached::KIND.to_owned(),
        network_name: "net".to_owned(),
        if_name: "eth0".to_owned(),
        config,
        cni_args: Vec::new(),
        capability_args: Map::new(),
        partial: result.clone(),
        result,
    };
    let sandbox = SandboxId::from_random([7; 32]);
    let record = SandboxRecord::of_this_process(&sandbox, Path::new("/run/netns/x"), cached);
    let show = |record: &SandboxRecord| serde_json::to_value(record).map_err(|e| e.to_string());
    let written = store::encode(&record).map_err(|e| e.to_string());
    let read = written.and_then(|bytes| {
        store::decode::<SandboxRecord>(&bytes).map_err(|e| e.to_string()).and_then(|r| show(&r))
    });
    Recorded { before: show(&record).unwrap_or_default(), after: read }
}

impl SandboxRecord {
    fn of_this_process(sandbox: &SandboxId, netns: &Path, cached: Cached) -> Self {
        Self {
            sandbox: sandbox.clone(),
            netns: netns.to_owned(),
            daemon: crate::record::Instance::this(),
            joined: vec![Joined::Cni(cached)],
            abandoned: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nested_too_deep_to_be_read_from_a_record_is_refused() {
        for levels in [10, 60, 120, 126] {
            let deep = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            let texts = [
                format!(r#"{{"name":"n","type":"t","x":{deep}}}"#),
                format!(r#"{{"name":"n","plugins":[{{"type":"t","x":{deep}}}]}}"#),
            ];
            let answered = answer(format!(r#"{{"ips":[],"x":{deep}}}"#).as_bytes());
            let read = texts.iter().map(|text| configuration(text.as_bytes())).chain([answered]);
            for read in read {
                assert_eq!(read.is_ok(), levels <= 60, "{levels}: {read:?}");
                if let Ok(recorded) = read {
                    assert_eq!(recorded.after, Ok(recorded.before), "{levels}");
                }
            }
        }
    }
}
