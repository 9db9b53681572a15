//! `isopod oci`: this process becomes the launcher's own command line (docs/guide/oci.md).
//!
//! Owns: nothing that lasts. Always: what enters containers runs from a sealed memory file, never from
//! this binary, which a container could otherwise come to write to.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::ExitCode;

use crate::daemon::monitor;

/// The name by which the monitor's program is that command line; also that of a link to this binary, for
/// callers that want a runtime to be one word.
const NAME: &str = "isopod-oci";
const VERB: &str = "oci";

/// The arguments after `isopod oci` or `isopod-oci`, if this was called so.
pub fn arguments() -> Option<Vec<OsString>> {
    let mut args = std::env::args_os();
    let own = args.next()?;
    if Path::new(&own).file_name().is_some_and(|name| name == NAME) {
        return Some(args.collect());
    }
    (args.next()? == VERB).then(|| args.collect())
}

/// Becomes it; comes back only with why that cannot be.
pub fn become_it(args: &[OsString]) -> ExitCode {
    let why = match start(args) {
        Ok(never) => match never {},
        Err(why) => why,
    };
    eprintln!("isopod oci: {why}");
    ExitCode::FAILURE
}

fn start(args: &[OsString]) -> Result<std::convert::Infallible, String> {
    let program = monitor::program(None).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|c| format!(": {c}"));
        format!("{error}{}", cause.unwrap_or_default())
    })?;
    let no_nul = |e: std::ffi::NulError| e.to_string();
    let own = [Ok(CString::from(c"isopod-oci"))].into_iter();
    let args = own.chain(args.iter().map(|arg| CString::new(arg.as_bytes())));
    let args: Vec<CString> = args.collect::<Result<_, _>>().map_err(no_nul)?;
    let variables = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        CString::new(name.into_vec())
    });
    let variables: Vec<CString> = variables.collect::<Result<_, _>>().map_err(no_nul)?;
    let error: io::Error = sys::exec_fd(program.as_fd(), &args, &variables);
    Err(format!("execute the launcher: {error}"))
}
