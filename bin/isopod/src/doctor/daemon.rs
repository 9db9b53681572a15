//! The daemon, where it runs: its conditions and what it still owes.

use std::path::Path;
use std::time::Duration;

use cri_api::v1::{StatusRequest, StatusResponse};

use super::finding::Finding;
use crate::cli::{Node, Trace};
use crate::config::Config;

/// How long the daemon may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn look(config: &Config, socket: Option<&Path>) -> Vec<Finding> {
    let socket = socket.unwrap_or(&config.socket.path);
    if !socket.exists() {
        let said = format!("no daemon has made {}", socket.display());
        let advice = "start it: systemctl start isopod, or isopod daemon";
        return vec![Finding::warning("daemon", said, advice)];
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = runtime.ok().and_then(|runtime| {
        runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(socket)).await.ok() })
    });
    match asked {
        Some(Ok(status)) => told(&status),
        Some(Err(why)) => {
            let advice = "see its log: journalctl -u isopod";
            vec![Finding::bad("daemon", format!("it does not answer: {why}"), advice)]
        }
        None => {
            let said = format!("it does not answer within {PATIENCE:?}");
            vec![Finding::bad("daemon", said, "restart it; pods go on meanwhile")]
        }
    }
}

async fn ask(socket: &Path) -> Result<StatusResponse, String> {
    let node = Node::connect(socket, Trace::default()).await.map_err(|f| f.report())?;
    let status = node.runtime().status(StatusRequest { verbose: true }).await;
    Ok(status.map_err(|status| status.message().to_owned())?.into_inner())
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
                Finding::bad("daemon", said, "docs/guide/trouble.md says what each reason means")
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
            reason: "NoConfiguration".to_owned(),
            message: "none".to_owned(),
        };
        let status = StatusResponse {
            status: Some(RuntimeStatus { conditions: vec![condition] }),
            info: [("owed".to_owned(), "[\"a network\"]".to_owned())].into(),
            ..Default::default()
        };
        let told = told(&status);
        assert_eq!((told[0].grade, told[1].grade), (Grade::Bad, Grade::Warning));
        assert!(told[1].said.contains("a network"));
    }
}
