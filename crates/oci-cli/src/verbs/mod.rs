//! One file per verb.

mod create;
mod delete;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::io::{self, Write as _};

use sys::SingleThreaded;

use crate::args::{Invocation, USAGE};
use crate::error::OciError;
use crate::record::{Directory, Record};

/// Does what `line` says; gives the exit code.
pub(crate) fn perform(proof: &SingleThreaded, line: &Invocation) -> Result<u8, OciError> {
    line.refuse_unsupported()?;
    match line.verb.as_str() {
        "create" => create::create(proof, line),
        "start" => start::start(proof, line),
        "state" => state::state(line),
        "kill" => kill::kill(line),
        "delete" => delete::delete(proof, line),
        "run" => run::run(proof, line),
        "exec" => exec::exec(proof, line),
        "ps" => ps::ps(line),
        "list" => list::list(line),
        "update" => update::update(line),
        "pause" => pause::pause(line),
        "resume" => pause::resume(line),
        "features" => features::features(),
        "spec" => spec::spec(line),
        "version" => print(&format!(
            "isopod oci version {}\nspec: {}\n",
            env!("CARGO_PKG_VERSION"),
            features::SPEC_VERSION
        )),
        _ => print(USAGE),
    }
}

/// The container that `line` names.
fn find(line: &Invocation) -> Result<(Directory, Record), OciError> {
    let id = line.id()?;
    let directory = Directory::of(&line.root, id);
    let record = directory.read(id)?;
    Ok((directory, record))
}

/// Writes an answer.
fn print(text: &str) -> Result<u8, OciError> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(OciError::io("write the answer")(e)),
        Ok(()) | Err(_) => Ok(0),
    }
}
