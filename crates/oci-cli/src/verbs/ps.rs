//! `ps`: the processes of a container, by their numbers on the host.

use crate::args::Invocation;
use crate::error::OciError;

pub(super) fn ps(line: &Invocation) -> Result<u8, OciError> {
    let (_, record) = super::find(line)?;
    let procs = match record.cgroup()? {
        Some(cgroup) => cgroup.procs()?,
        None => Vec::new(),
    };
    let mut numbers: Vec<i32> = procs.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    numbers.sort_unstable();
    if line.value("format") == Some("json") {
        let text = serde_json::to_string(&numbers).map_err(OciError::json("the list"))?;
        return super::print(&format!("{text}\n"));
    }
    let mut table = "PID     COMMAND\n".to_owned();
    for pid in numbers {
        // One that has ended meanwhile has no name any more.
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name: String =
            name.trim().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        table.push_str(&format!("{pid:<7} {name}\n"));
    }
    super::print(&table)
}
