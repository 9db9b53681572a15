//! Failures, where the caller looks for them.

use std::fs::File;
use std::io::Write as _;

use crate::args::Invocation;
use crate::error::OciError;

/// Tells `error` on standard error, and in the log file that was asked for.
pub(crate) fn report(invocation: &Invocation, error: &OciError) {
    let message = error.chain();
    eprintln!("{message}");
    log(invocation, "error", &message);
}

/// The same for what went wrong and changes nothing.
pub(crate) fn warn(invocation: &Invocation, message: &str) {
    eprintln!("warning: {message}");
    log(invocation, "warning", message);
}

fn log(invocation: &Invocation, level: &str, message: &str) {
    let Some(path) = &invocation.log else { return };
    let time = crate::record::now();
    let line = if invocation.log_is_json {
        serde_json::json!({ "level": level, "msg": message, "time": time }).to_string()
    } else {
        format!("time={time:?} level={level} msg={message:?}")
    };
    // What cannot be told here has been told on standard error.
    let file = File::options().append(true).create(true).open(path);
    let _ = file.and_then(|mut file| writeln!(file, "{line}"));
}
