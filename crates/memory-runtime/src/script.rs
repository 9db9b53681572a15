//! Latencies and failures, as a load test scripts them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use tonic::{Code, Status};

/// What happens to calls, by rules; the first that fits a call counts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The rules.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
    #[serde(skip)]
    seen: Mutex<HashMap<usize, u64>>,
}

/// What happens to some calls.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The call, by its name in the API; `*` for all.
    pub call: String,
    /// Only calls on objects whose name begins so: of the pod, the container, or the image.
    #[serde(default)]
    pub name: String,
    /// How long the answer takes, in milliseconds.
    #[serde(default)]
    pub latency: u64,
    /// How much longer it takes at most, in milliseconds: spread evenly, the same in every run.
    #[serde(default)]
    pub jitter: u64,
    /// Each so many-th call fails; 0 for none.
    #[serde(default)]
    pub fail_every: u64,
    /// The number of the gRPC code that it fails with; 14, Unavailable, where it is 0.
    #[serde(default)]
    pub code: i32,
}

impl Script {
    /// A script as TOML: `[[rule]]` tables with the fields of [`Rule`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Waits as long as the call takes by the script.
    ///
    /// # Errors
    /// Where it is to fail.
    pub async fn play(&self, call: &str, name: &str) -> Result<(), Status> {
        let fits =
            |rule: &Rule| (rule.call == "*" || rule.call == call) && name.starts_with(&rule.name);
        let Some(at) = self.rules.iter().position(fits) else { return Ok(()) };
        let rule = &self.rules[at];
        let count = {
            let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let count = seen.entry(at).or_default();
            *count += 1;
            *count
        };
        // Weyl's sequence: spread without being random.
        let more = count.wrapping_mul(0x9e37_79b9) % (rule.jitter + 1);
        let latency = Duration::from_millis(rule.latency + more);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if rule.fail_every > 0 && count.is_multiple_of(rule.fail_every) {
            let code = if rule.code == 0 { Code::Unavailable } else { Code::from_i32(rule.code) };
            return Err(Status::new(code, format!("{call} of {name:?} fails, as the script says")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_second_call_fails_with_its_code() {
        let text = "[[rule]]\ncall = \"RunPodSandbox\"\nname = \"web\"\nfail_every = 2\ncode = 8\n";
        let script = Script::parse(text).unwrap();
        let mut codes = Vec::new();
        for _ in 0..4 {
            codes.push(script.play("RunPodSandbox", "web-1").await.err().map(|e| e.code()));
        }
        let full = Some(Code::ResourceExhausted);
        assert_eq!(codes, [None, full, None, full]);
        assert!(script.play("RunPodSandbox", "db").await.is_ok());
        assert!(script.play("StopContainer", "web-1").await.is_ok());
        assert!(Script::parse("[[rule]]\ncall = \"x\"\nno_such_key = 1\n").is_err());
    }
}
