//! What the error stream says at the end of a command (Kubernetes' `meta/v1` Status).

use serde::{Deserialize, Serialize};

/// How a command, an attach or a port-forward ended, as its client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ended with exit code 0, or the client detached.
    Success,
    /// The process ended with this code; 128 + n for signal n.
    ExitCode(i32),
    /// It could not be carried out, or not to its end.
    Failed(String),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Status {
    #[serde(default)]
    metadata: Empty,
    #[serde(default)]
    status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Empty {}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Cause {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(default)]
    message: String,
}

const NON_ZERO: &str = "NonZeroExitCode";
const EXIT_CODE: &str = "ExitCode";

impl Outcome {
    /// As protocols from version 4 on say it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let cause = |reason: &str, message: String| {
            Some(Details { causes: vec![Cause { reason: reason.to_owned(), message }] })
        };
        let status = match self {
            Self::Success | Self::ExitCode(0) => {
                Status { status: "Success".to_owned(), ..Status::default() }
            }
            Self::ExitCode(code) => Status {
                status: "Failure".to_owned(),
                message: self.to_text(),
                reason: NON_ZERO.to_owned(),
                details: cause(EXIT_CODE, code.to_string()),
                ..Status::default()
            },
            Self::Failed(why) => Status {
                status: "Failure".to_owned(),
                message: format!("Internal error occurred: {why}"),
                reason: "InternalError".to_owned(),
                details: cause("", why.clone()),
                code: Some(500),
                ..Status::default()
            },
        };
        // Strings and numbers can always be written.
        serde_json::to_vec(&status).unwrap_or_default()
    }

    /// As protocols before version 4 say it; nothing for success.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Success | Self::ExitCode(0) => String::new(),
            Self::ExitCode(code) => format!("command terminated with non-zero exit code: {code}"),
            Self::Failed(why) => why.clone(),
        }
    }

    /// What a server has said on the error stream: a status, or plain text, or nothing.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Self::Success;
        }
        let Ok(status) = serde_json::from_slice::<Status>(bytes) else {
            return Self::Failed(String::from_utf8_lossy(bytes).trim().to_owned());
        };
        if status.status == "Success" {
            return Self::Success;
        }
        let causes = status.details.map(|d| d.causes).unwrap_or_default();
        let code =
            causes.iter().find(|c| c.reason == EXIT_CODE).and_then(|c| c.message.parse().ok());
        match code {
            Some(code) if status.reason == NON_ZERO => Self::ExitCode(code),
            Some(_) | None => Self::Failed(status.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for outcome in [Outcome::Success, Outcome::ExitCode(3), Outcome::ExitCode(137)] {
            assert_eq!(Outcome::parse(&outcome.to_json()), outcome);
        }
        assert_eq!(Outcome::parse(&Outcome::ExitCode(0).to_json()), Outcome::Success);
        assert_eq!(
            Outcome::parse(&Outcome::Failed("no such file".into()).to_json()),
            Outcome::Failed("Internal error occurred: no such file".into())
        );
        assert_eq!(Outcome::parse(b""), Outcome::Success);
        assert_eq!(Outcome::parse(b"plain words\n"), Outcome::Failed("plain words".into()));
    }

    #[test]
    fn the_exit_code_stands_where_kubectl_looks_for_it() {
        let json: serde_json::Value =
            serde_json::from_slice(&Outcome::ExitCode(7).to_json()).unwrap();
        assert_eq!(json["status"], "Failure");
        assert_eq!(json["reason"], "NonZeroExitCode");
        assert_eq!(
            json["details"]["causes"][0],
            serde_json::json!({"reason": "ExitCode", "message": "7"})
        );
        assert_eq!(json["metadata"], serde_json::json!({}));
    }
}
