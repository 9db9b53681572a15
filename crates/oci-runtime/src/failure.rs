//! What a runtime says when it fails.

use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// Longest message, in bytes.
const LONGEST: usize = 4096;

/// The last error in the runtime's JSON log, or what `status` says if there is none.
#[must_use]
pub fn failure_message(log: &Path, status: i32) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let error = lines.into_iter().find(|line| line.level == "error" || line.level.is_empty());
    match error {
        Some(line) if !line.msg.is_empty() => line.msg.chars().take(LONGEST).collect(),
        Some(_) | None => format!("it ended with {status} and said nothing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_the_log_is_the_message() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(failure_message(&log, 3), "it ended with 3 and said nothing");
        std::fs::write(
            &log,
            "not json\n{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"last\"}\n\
             {\"level\":\"debug\",\"msg\":\"more\"}\n",
        )
        .unwrap();
        assert_eq!(failure_message(&log, 1), "last");
    }
}
