//! Into a container.

use std::fs;
use std::io::{self, BufWriter};
use std::path::Path;

use cri_api::v1::ExecSyncRequest;
use image_store::tar::Writer;
use tokio_util::io::SyncIoBridge;

use super::{Far, split};
use crate::cli::failure::{Doing as _, Failure, Outcome};
use crate::cli::{archive, print};

/// What is sent at once.
const CHUNK: usize = 64 << 10;
/// Seconds for a question that is answered at once.
const SOON: i64 = 30;

/// Copies `here` to `inside`: into it, if it is a directory there, else under its name.
pub async fn give(far: &Far<'_>, here: &Path, inside: &Path) -> Outcome {
    let whole = fs::canonicalize(here).doing(far.doing)?;
    let (_, own_name) = split(&whole)
        .ok_or_else(|| far.failed(format!("{} has no name to be given", here.display())))?;
    let (directory, name) = if is_directory(far, inside).await? {
        (inside.to_owned(), own_name)
    } else {
        split(inside).ok_or_else(|| far.failed("the path in the container names no file"))?
    };
    let directory = directory.to_string_lossy().into_owned();
    let command = ["tar", "xf", "-", "-C", &directory];
    let mut session = far.run(command.map(str::to_owned).to_vec(), true).await?;
    let stdin = session.stdin.take().ok_or_else(|| far.failed("there is no input"))?;
    let work = tokio::task::spawn_blocking(move || {
        let mut writer = Writer::new(BufWriter::with_capacity(CHUNK, SyncIoBridge::new(stdin)));
        let mut skipped = 0;
        archive::add(&mut writer, &whole, &name, &mut skipped)
            .and_then(|()| writer.finish())
            .and_then(|sent| sent.into_inner().map_err(io::IntoInnerError::into_error))
            .and_then(|mut stdin| stdin.shutdown())
            .map_err(|error| error.to_string())?;
        if skipped > 0 {
            print::aside(&format!("{skipped} devices, pipes and sockets were left out"));
        }
        Ok(())
    });
    far.finish(session, work).await
}

async fn is_directory(far: &Far<'_>, inside: &Path) -> Result<bool, Failure> {
    let path = inside.to_string_lossy().into_owned();
    let cmd = ["test", "-d", &path].map(str::to_owned).to_vec();
    let request = ExecSyncRequest { container_id: far.id.clone(), cmd, timeout: SOON };
    let answer = far.node.runtime().exec_sync(request).await.doing(far.doing)?;
    Ok(answer.into_inner().exit_code == 0)
}
