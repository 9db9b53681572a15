//! `isopod logs`.

use std::path::PathBuf;

use cri_api::v1::{ContainerState, ContainerStatusRequest};
use cri_log::Time;

use super::failure::{Doing, Failure, Outcome};
use super::find;
use super::follow::{Wanted, print_now, until_end};
use super::node::Node;
use super::text::now;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on until the container ends
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// Only what was written since then: 30s, 10m, 3h, 2d, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    since: Option<Since>,
    /// Print each line's time
    #[arg(long)]
    timestamps: bool,
    /// A name, an id, or the beginning of one
    container: String,
}

/// A time, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    At(Time),
    Ago(i64),
}

/// Prints what a container wrote, from its log file on this machine.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let container = find::container(node, &args.container).await?;
    let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
    let doing = format!("find the log of container {}", args.container);
    let answer = node.runtime().container_status(request).await.doing(&doing)?.into_inner();
    let status = answer.status.unwrap_or_default();
    if status.log_path.is_empty() {
        return Err(Failure::new(doing, "it was made without one"));
    }
    let path = PathBuf::from(&status.log_path);
    if status.state() == ContainerState::ContainerCreated && !path.exists() {
        return Err(Failure::new(doing, "it has not been started, so it has written nothing"));
    }
    let since = args.since.map(|since| match since {
        Since::At(time) => time,
        Since::Ago(ago) => Time::from_nanoseconds(now().saturating_sub(ago)),
    });
    let wanted = Wanted { timestamps: args.timestamps, tail: args.tail, since, prefix: None };
    if args.follow && status.state() == ContainerState::ContainerRunning {
        until_end(node, &container.id, path, wanted).await?;
    } else {
        print_now(&path, &wanted)?;
    }
    Ok(0)
}

fn parse_since(text: &str) -> Result<Since, String> {
    if let Ok(time) = Time::parse(text.as_bytes()) {
        return Ok(Since::At(time));
    }
    let wrong = || "give a number with s, m, h or d, or a time such as 2026-01-31T12:00:00Z";
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong().to_owned()),
    };
    let count: i64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let ago = count.checked_mul(seconds).and_then(|s| s.checked_mul(1_000_000_000));
    ago.filter(|ago| *ago >= 0).map(Since::Ago).ok_or_else(|| wrong().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        assert_eq!(parse_since("90s"), Ok(Since::Ago(90_000_000_000)));
        assert_eq!(parse_since("2d"), Ok(Since::Ago(172_800_000_000_000)));
        assert_eq!(parse_since("1970-01-01T00:00:00Z"), Ok(Since::At(Time::EPOCH)));
        for wrong in ["", "s", "10", "-5m", "10y", "9999999999999999d", "é"] {
            assert!(parse_since(wrong).is_err(), "{wrong}");
        }
    }
}
