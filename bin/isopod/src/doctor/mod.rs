//! `isopod doctor`: whether this machine can run pods, and what to do where it cannot.
//!
//! Owns: what is looked at, and what is said about it. Always: it needs no daemon that runs and changes
//! nothing that lasts: what it tries (a mount, a namespace) is gone with it; each finding that is not good
//! says what to do.
//! Callers: `main`.

mod cgroup;
mod daemon;
mod disk;
mod finding;
mod host;
mod kernel;
mod leftovers;
mod limits;
mod mounts;
mod network;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::cli::{Form, print};
use crate::config::{self, Config, Flags};
use finding::{Finding, Grade};
use host::Host;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's configuration file; its drop-ins are beside it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only what is not as it should be
    #[arg(long, short)]
    quiet: bool,
}

/// Looks at everything. The exit code is 1 where something keeps pods from running.
pub fn run(args: &Args, socket: Option<&Path>, form: Form) -> ExitCode {
    let mut findings = Vec::new();
    let flags = Flags::default();
    let config = match config::load(args.config.as_deref(), &flags) {
        Ok((config, _)) => Some(config),
        Err(mistakes) => {
            let advice = "`isopod config check` tells every mistake with file and line";
            findings.push(Finding::bad("configuration", mistakes.to_string(), advice));
            None
        }
    };
    if config.is_some() {
        findings.push(Finding::good("configuration", "it has no mistake"));
    }
    let config = config.or_else(defaults);
    if let Some(config) = &config {
        findings.extend(all(&Host::this(), config, socket));
    }
    let bad = findings.iter().filter(|one| one.grade == Grade::Bad).count();
    let warnings = findings.iter().filter(|one| one.grade == Grade::Warning).count();
    findings.retain(|one| !args.quiet || one.grade != Grade::Good);
    let printed = match form {
        Form::Table => print::line(&for_people(&findings, bad, warnings)),
        Form::Json | Form::Yaml => {
            let all: Vec<_> = findings.iter().map(Finding::json).collect();
            print::value(&json!({ "bad": bad, "warnings": warnings, "findings": all }), form)
        }
    };
    if printed.is_ok() && bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What counts where the configuration cannot be read.
fn defaults() -> Option<Config> {
    config::load(Some(Path::new("/dev/null")), &Flags::default()).ok().map(|(config, _)| config)
}

fn all(host: &Host, config: &Config, socket: Option<&Path>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(kernel::look(host));
    findings.extend(cgroup::look(host, config));
    findings.extend(mounts::look(host, config));
    findings.extend(network::look(host, config));
    findings.extend(disk::look(config));
    findings.extend(limits::look(host));
    findings.extend(leftovers::look(host));
    findings.extend(daemon::look(config, socket));
    findings
}

fn for_people(findings: &[Finding], bad: usize, warnings: usize) -> String {
    let mut text = String::new();
    for finding in findings {
        let what = format!("{:<5} {:<14} {}\n", finding.grade.word(), finding.about, finding.said);
        text.push_str(&what);
        if !finding.advice.is_empty() {
            text.push_str(&format!("{:21}→ {}\n", "", finding.advice));
        }
    }
    text.push_str(&match (bad, warnings) {
        (0, 0) => "all is well".to_owned(),
        (0, warnings) => format!("pods can run; {warnings} warnings"),
        (bad, warnings) => format!("{bad} findings keep pods from running; {warnings} warnings"),
    });
    text
}
