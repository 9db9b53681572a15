//! `isopod check`: the conformance suite, on whatever runtime listens at the endpoint.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use conformance::{CaseResult, Level, Options, Report, Restart, Suite};

use super::failure::{EXIT_FAILURE, Failure, Outcome};
use super::node::Node;
use super::print;

/// Which cases, with what, and how the outcome is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Cases to run: groups, or names with * for any characters; all where none is given
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Cases to leave out
    #[arg(long, value_name = "PATTERN")]
    without: Vec<String>,
    /// Only cases that take no more of the node than this for granted
    #[arg(long, value_enum, default_value_t = Extent::Linux, value_name = "LEVEL")]
    level: Extent,
    /// List the cases with their rules, and run none
    #[arg(long)]
    list: bool,
    /// Show what differs between two reports in JSON, and run no case
    #[arg(long, num_args = 2, value_names = ["LEFT", "RIGHT"], conflicts_with = "list")]
    compare: Vec<PathBuf>,
    /// How many cases run at the same time
    #[arg(long, short, default_value_t = 4, value_name = "NUMBER")]
    jobs: usize,
    /// How long one case may take, in seconds, its clean-up not counted
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
    /// The runtime handler of every pod
    #[arg(long, default_value = "", value_name = "NAME")]
    handler: String,
    /// The form of the report
    #[arg(long, value_enum, default_value_t = Form::Text, value_name = "FORM")]
    report: Form,
    /// Write the report to a file, and what people read to the terminal still
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// A registry on plain HTTP that images are pushed to, in place of the suite's own
    #[arg(long, value_name = "HOST:PORT")]
    registry: Option<String>,
    /// Where the suite's own registry listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    serve_on: SocketAddr,
    /// A static busybox, which the images are made of
    #[arg(long, value_name = "FILE", default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// Where logs and volumes of the pods go; the runtime must see the same directory
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// The cgroup or slice that all pods are put under
    #[arg(long, value_name = "PATH", default_value = "")]
    cgroup_parent: String,
    /// Leave out what needs a network of the pods' own
    #[arg(long)]
    no_pod_network: bool,
    /// A shell command that restarts the runtime; cases about restarts are left out without it
    #[arg(long, value_name = "COMMAND")]
    restart: Option<String>,
}

/// [`Level`], as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Extent {
    /// The calls and their answers alone
    Api,
    /// Programs that run, and what they write
    Program,
    /// A Linux node
    Linux,
}

/// [`conformance::Form`], as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// JUnit's XML
    Junit,
    /// The Test Anything Protocol
    Tap,
    /// JSON, which --compare reads
    Json,
}

impl From<Form> for conformance::Form {
    fn from(form: Form) -> Self {
        match form {
            Form::Text => Self::Text,
            Form::Junit => Self::Junit,
            Form::Tap => Self::Tap,
            Form::Json => Self::Json,
        }
    }
}

impl Args {
    fn options(&self) -> Options {
        Options {
            patterns: self.patterns.clone(),
            without: self.without.clone(),
            level: match self.level {
                Extent::Api => Level::Api,
                Extent::Program => Level::Program,
                Extent::Linux => Level::Linux,
            },
            jobs: self.jobs,
            patience: Duration::from_secs(self.patience),
            handler: self.handler.clone(),
            registry: self.registry.clone(),
            serve_on: self.serve_on,
            busybox: self.busybox.clone(),
            directory: self.directory.clone(),
            cgroup_parent: self.cgroup_parent.clone(),
            pod_network: !self.no_pod_network,
            restart: self.restart.clone().map(restart_by),
        }
    }
}

/// What can be done without a runtime: nothing where it is a run that is asked for.
pub fn without_a_runtime(args: &Args) -> Option<Outcome> {
    if args.list {
        return Some(list(&args.options()));
    }
    match args.compare.as_slice() {
        [left, right] => Some(compare(left, right)),
        _ => None,
    }
}

fn list(options: &Options) -> Outcome {
    let chosen: Vec<_> = conformance::all().filter(|case| options.select(case)).collect();
    for case in &chosen {
        print::line(&format!("{:<48} {}", case.name, case.rule))?;
    }
    print::line(&format!("{} cases", chosen.len()))?;
    Ok(0)
}

fn compare(left: &Path, right: &Path) -> Outcome {
    let read = |path: &Path| -> Result<Report, Failure> {
        let doing = || format!("read the report {}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| Failure::caused(doing(), &e))?;
        Report::parse(&text).map_err(|e| Failure::caused(doing(), &e))
    };
    print::line(conformance::compare(&read(left)?, &read(right)?).trim_end())?;
    Ok(0)
}

/// Runs the suite; exit code 1 where a case fails.
pub async fn run(node: &Node, args: Args) -> Outcome {
    let options = args.options();
    let doing = format!("check the runtime at {}", node.socket().display());
    let suite = Suite::prepare(node.channel(), options).await;
    let suite = suite.map_err(|reason| Failure::new(&doing, reason))?;
    let is_shown = std::io::stderr().is_terminal();
    let report = suite.run(|result| tell(result, is_shown)).await;
    let finished = suite.finish().await;
    if let Some(path) = &args.to {
        let text = report.print(args.report.into());
        let written = std::fs::write(path, text);
        written.map_err(|e| Failure::caused(format!("write {}", path.display()), &e))?;
        print::line(report.print(conformance::Form::Text).trim_end())?;
    } else {
        print::line(report.print(args.report.into()).trim_end())?;
    }
    finished.map_err(|reason| Failure::new(doing, reason))?;
    let is_bad = report.failures().next().is_some();
    Ok(if is_bad { EXIT_FAILURE } else { 0 })
}

/// A line for each case that ends, where a person looks on.
fn tell(result: &CaseResult, is_shown: bool) {
    if is_shown {
        eprintln!("{:<7} {} ({:.1} s)", result.outcome.name(), result.name, result.seconds);
    }
}

/// Runs a shell command; it must succeed.
fn restart_by(command: String) -> Restart {
    Restart(Arc::new(move || {
        let command = command.clone();
        Box::pin(async move {
            let done = tokio::process::Command::new("sh").args(["-c", &command]).output().await;
            let done = done.map_err(|error| error.to_string())?;
            if done.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            Err(format!("{command}: {}: {said}", done.status))
        })
    }))
}
