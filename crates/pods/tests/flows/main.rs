//! Whole flows of pods, against a monitor that is played: the same program, started as a monitor is.
//!
//! Everything else is real: records, directories, cgroups, the image store, processes and sockets.

mod containers;
mod execs;
mod fake;
mod node;
mod restarts;
mod sandboxes;

use std::panic::catch_unwind;
use std::process::ExitCode;

/// A story and its name, which is a sentence of behaviour.
type Story = (&'static str, fn());

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.first().is_some_and(|name| name == "isopod-monitor") {
        return fake::run();
    }
    let stories: Vec<Story> =
        [sandboxes::STORIES, containers::STORIES, execs::STORIES, restarts::STORIES].concat();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") {
        // None is ignored; a runner that asks for those must not be told of all.
        let listed: &[Story] = if has("--ignored") { &[] } else { &stories };
        for (name, _) in listed {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = args.iter().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| {
        wanted.is_empty() || wanted.iter().any(|part| matches(name, part, has("--exact")))
    };
    let mut failed = 0;
    for (name, story) in stories.iter().filter(|(name, _)| is_wanted(name)) {
        let went_well = catch_unwind(story).is_ok();
        println!("test {name} ... {}", if went_well { "ok" } else { "FAILED" });
        failed += i32::from(!went_well);
    }
    println!("{failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn matches(name: &str, part: &str, exactly: bool) -> bool {
    if exactly { name == part } else { name.contains(part) }
}
