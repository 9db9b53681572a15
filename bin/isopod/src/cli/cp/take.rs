//! Out of a container.

use std::path::Path;

use tokio_util::io::SyncIoBridge;

use super::place::Place;
use super::{Far, split};
use crate::cli::failure::Outcome;
use crate::cli::print;

/// Copies `inside` to `here`: into it, if it is a directory, else under its name.
pub async fn take(far: &Far<'_>, inside: &Path, here: &Path) -> Outcome {
    let (directory, name) = split(inside)
        .ok_or_else(|| far.failed("the path in the container names no file that could be taken"))?;
    let (target, new_name) = if here.is_dir() {
        (here.to_owned(), name.clone())
    } else {
        split(here).ok_or_else(|| far.failed(format!("{} names no file", here.display())))?
    };
    let place = Place::open(&target, name.clone(), new_name).map_err(|why| far.failed(why))?;
    let directory = directory.to_string_lossy().into_owned();
    let command = ["tar", "cf", "-", "-C", &directory, &format!("./{name}")];
    let mut session = far.run(command.map(str::to_owned).to_vec(), false).await?;
    let stdout = session.stdout.take().ok_or_else(|| far.failed("there is no output"))?;
    let work = tokio::task::spawn_blocking(move || {
        let skipped = place.fill(SyncIoBridge::new(stdout))?;
        if skipped > 0 {
            print::aside(&format!("{skipped} devices, pipes and sockets were left out"));
        }
        Ok(())
    });
    far.finish(session, work).await
}
