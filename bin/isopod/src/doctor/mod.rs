//! `isopod doctor`: whether this machine can run pods, and what to do where it cannot.
//!
//! Owns: what is looked at, and what is said about it. Always: defaults are never judged in place of what could not
//! be read; it needs no daemon that runs and changes
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
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::{Form, Globals, print};
use crate::config::{self, Flags, Looked, NetworkChoice};
use daemon::Asked;
use finding::{Finding, Grade};
use host::Host;
use subject::{judge, subject};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration to judge, its drop-ins beside it; without it that of the daemon that
    /// answers, else the one of this machine
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only what is not as it should be
    #[arg(long, short)]
    quiet: bool,
}

/// Looks at everything. The exit code is 1 where something keeps pods from running.
pub fn run(args: &Args, globals: &Globals) -> ExitCode {
    let given = match globals.endpoint() {
        Ok(given) => given,
        Err(why) => {
            eprintln!("isopod: cannot tell which socket is meant: {why}");
            return ExitCode::FAILURE;
        }
    };
    let local = config::look(args.config.as_deref(), &Flags::default());
    let entries = &local.entries;
    let is_known = !["socket.path", "state"].iter().any(|key| {
        entries.is_incomplete() || entries.is_unsure(&key.split('.').collect::<Vec<_>>())
    });
    let socket = given.or_else(|| is_known.then(|| local.config.socket.path.clone()));
    let asked = socket.as_deref().map_or(Asked::Nobody, daemon::ask);
    let subject = subject(args.config.as_deref(), local, socket.as_deref(), &asked);
    let mut findings = subject.findings;
    findings.extend(all(&Host::this(), &subject.looked));
    findings.extend(match &socket {
        Some(socket) => daemon::look(socket, &asked),
        None => judge(&subject.looked, "daemon", &["socket.path", "state"], Vec::new),
    });
    tell(findings, args.quiet, globals.output)
}

fn tell(mut findings: Vec<Finding>, quiet: bool, form: Form) -> ExitCode {
    let bad = findings.iter().filter(|one| one.grade == Grade::Bad).count();
    let warnings = findings.iter().filter(|one| one.grade == Grade::Warning).count();
    findings.retain(|one| !quiet || one.grade != Grade::Good);
    let printed = match form {
        Form::Table => print::line(&for_people(&findings, bad, warnings)),
        Form::Json | Form::Yaml => {
            let all: Vec<_> = findings.iter().map(Finding::json).collect();
            print::value(&json!({ "bad": bad, "warnings": warnings, "findings": all }), form)
        }
    };
    if printed.is_ok() && bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all(host: &Host, looked: &Looked) -> Vec<Finding> {
    let config = &looked.config;
    let mut findings = Vec::new();
    findings.extend(kernel::look(host));
    findings.extend(cgroup::look(host));
    let driver = || vec![cgroup::driver(host, config.cgroup)];
    findings.extend(judge(looked, "cgroups", &["cgroup.driver"], driver));
    findings.extend(judge(looked, "overlay", &["root"], || vec![mounts::overlay(&config.root)]));
    findings.extend(mounts::look(host));
    let network = || network::look(host, &config.network);
    findings.extend(judge(looked, "network", &["network"], network));
    if !matches!(config.network, NetworkChoice::None) {
        findings.push(network::forwarding(host));
    }
    let keys = ["root", "state", "pods.writable_size", "pods.writable_max"];
    findings.extend(judge(looked, "disk", &keys, || disk::look(config)));
    findings.extend(limits::look(host));
    findings.extend(leftovers::look(host));
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
        (0, warnings) => format!("pods can run; {}", counted(warnings, "warning")),
        (1, warnings) => {
            format!("1 finding keeps pods from running; {}", counted(warnings, "warning"))
        }
        (bad, warnings) => {
            format!("{bad} findings keep pods from running; {}", counted(warnings, "warning"))
        }
    });
    text
}

fn counted(many: usize, what: &str) -> String {
    if many == 1 { format!("1 {what}") } else { format!("{many} {what}s") }
}
