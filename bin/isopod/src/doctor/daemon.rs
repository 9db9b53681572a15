//! The daemon, where it runs: its conditions and what it still owes.

use std::path::Path;
use std::time::Duration;

use cri_api::v1::{StatusRequest, StatusResponse};

use super::finding::Finding;
use crate::cli::{Node, Patience, Trace};

/// How long the daemon may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of asking it.
#[derive(Debug)]
pub enum Asked {
    /// There is no socket, or nobody knows which it is.
    Nobody,
    /// How it is.
    Told(Box<StatusResponse>),
    /// It cannot be asked.
    Failed(String),
    /// It let the time go by.
    Silent,
}

/// Asks the daemon at `socket` how it is.
pub fn ask(socket: &Path) -> Asked {
    if !socket.exists() {
        return Asked::Nobody;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Asked::Failed(error.to_string()),
    };
    let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, status(socket)).await });
    match asked {
        Ok(Ok(status)) => Asked::Told(Box::new(status)),
        Ok(Err(why)) => Asked::Failed(why),
        Err(_) => Asked::Silent,
    }
}

async fn status(socket: &Path) -> Result<StatusResponse, String> {
    let node = Node::connect(socket, Trace::default(), Patience::default()).await;
    let node = node.map_err(|failure| failure.report().trim_end().to_owned())?;
    let status = node.runtime().status(StatusRequest { verbose: true }).await;
    Ok(status.map_err(|status| status.message().to_owned())?.into_inner())
}

/// What is said of the daemon at `socket`.
pub fn look(socket: &Path, asked: &Asked) -> Vec<Finding> {
    match asked {
        Asked::Nobody => {
            let said = format!("no daemon has made {}", socket.display());
            let advice = "start it: systemctl start isopod, or isopod daemon";
            vec![Finding::warning("daemon", said, advice)]
        }
        Asked::Told(status) => told(status),
        Asked::Failed(why) => {
            let advice = "see its log: journalctl -u isopod";
            let said = format!("{} does not answer: {why}", socket.display());
            vec![Finding::bad("daemon", said, advice)]
        }
        Asked::Silent => {
            let said = format!("{} does not answer within {PATIENCE:?}", socket.display());
            vec![Finding::bad("daemon", said, "restart it; pods go on meanwhile")]
        }
    }
}

fn told(status: &StatusResponse) -> Vec<Finding> {
    let conditions = status.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let mut findings: Vec<Finding> = conditions
        .iter()
        .map(|one| {
            let said = format!("{}: {}: {}", one.r#type, one.reason, one.message);
            if one.status {
                Finding::good("daemon", said)
            } else {
                Finding::bad("daemon", said, advice(&one.reason))
            }
        })
        .collect();
    let owed =
        status.info.get("owed").and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    for debt in owed.unwrap_or_default().iter().take(10) {
        let advice = "it is tried again by itself; its log says what fails";
        findings.push(Finding::warning("daemon", format!("not undone yet: {debt}"), advice));
    }
    findings
}

/// What to do about a condition's reason; docs/guide/trouble.md has the same table.
fn advice(reason: &str) -> &'static str {
    match reason {
        "RuntimeNotReady" => {
            "the message names the directory or the program: make room, mount it read-write, or put the program there"
        }
        "NoNetworkConfiguration" => {
            "install a network for the cluster, which puts one there, or set network.mode to bridge"
        }
        "InvalidNetworkConfiguration" => {
            "mend the file that the message names; it is read again by itself"
        }
        "NetworkPluginMissing" => {
            "install the plugin, or name its directory in network.cni.plugin_dirs; it is found by itself"
        }
        "NetworkPluginNotReady" => {
            "see the log of the network's own agent: its plugin says that it cannot serve now"
        }
        "BridgeFailed" => "the message says what is in the bridge's way; docs/guide/networking.md",
        _ => "docs/guide/trouble.md says what each reason means",
    }
}

#[cfg(test)]
mod tests {
    use cri_api::v1::{RuntimeCondition, RuntimeStatus};

    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn a_condition_that_does_not_hold_is_bad_and_debts_are_told() {
        let condition = RuntimeCondition {
            r#type: "NetworkReady".to_owned(),
            status: false,
            reason: "NoNetworkConfiguration".to_owned(),
            message: "none".to_owned(),
        };
        let status = StatusResponse {
            status: Some(RuntimeStatus { conditions: vec![condition] }),
            info: [("owed".to_owned(), "[\"a network\"]".to_owned())].into(),
            ..Default::default()
        };
        let told = told(&status);
        assert_eq!((told[0].grade, told[1].grade), (Grade::Bad, Grade::Warning));
        assert!(told[0].advice.contains("network.mode") && told[1].said.contains("a network"));
    }

    #[test]
    fn every_reason_is_in_the_guide() {
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/trouble.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        for reason in [
            "RuntimeNotReady",
            "NoNetworkConfiguration",
            "InvalidNetworkConfiguration",
            "NetworkPluginMissing",
            "NetworkPluginNotReady",
            "BridgeFailed",
        ] {
            assert!(guide.contains(&format!("| `{reason}` |")), "{reason}");
            assert!(!advice(reason).contains("trouble.md"), "{reason}");
        }
    }
}
