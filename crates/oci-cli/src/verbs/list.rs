//! `list`: all containers of a root directory.

use std::io::ErrorKind;

use crate::args::Invocation;
use crate::error::OciError;
use crate::record::Directory;

pub(super) fn list(line: &Invocation) -> Result<u8, OciError> {
    let failed = || OciError::io::<std::io::Error>(format!("list {}", line.root.display()));
    let entries = match std::fs::read_dir(&line.root) {
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        entries => entries.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed())?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let id = entry.file_name().to_string_lossy().into_owned();
        let directory = Directory::of(&line.root, &id);
        // One that is being made or removed has no record.
        if let Ok(record) = directory.read(&id) {
            found.push((record.id.clone(), super::state::shown(&directory, &record)));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    if line.has("quiet") {
        return super::print(&found.iter().map(|(id, _)| format!("{id}\n")).collect::<String>());
    }
    if line.value("format") == Some("json") {
        let all: Vec<_> = found.into_iter().map(|(_, shown)| shown).collect();
        let text = serde_json::to_string(&all).map_err(OciError::json("the list"))?;
        return super::print(&format!("{text}\n"));
    }
    let mut table = "ID\tPID\tSTATUS\tBUNDLE\tCREATED\n".to_owned();
    for (id, shown) in found {
        let text = |name: &str| shown[name].as_str().unwrap_or_default().to_owned();
        let (status, bundle, created) = (text("status"), text("bundle"), text("created"));
        table.push_str(&format!("{id}\t{}\t{status}\t{bundle}\t{created}\n", shown["pid"]));
    }
    super::print(&table)
}
