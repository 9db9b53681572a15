//! Into a container.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cri_api::v1::ExecSyncRequest;
use image_store::tar::{Entry, Kind, Writer};
use tokio_util::io::SyncIoBridge;

use super::{Far, split};
use crate::cli::failure::{Doing as _, Failure, Outcome};
use crate::cli::print;

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
        add(&mut writer, &whole, &name, &mut skipped)
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

/// Adds a file, or a directory with all that is in it. Links are copied as links.
fn add<W: Write>(
    writer: &mut Writer<W>,
    path: &Path,
    name: &str,
    skipped: &mut u64,
) -> io::Result<()> {
    let at =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let meta = fs::symlink_metadata(path).map_err(at)?;
    let kind = meta.file_type();
    if kind.is_dir() {
        writer.entry(&entry(name, Kind::Directory, &meta, 0), io::empty())?;
        let listed: io::Result<Vec<_>> = fs::read_dir(path).map_err(at)?.collect();
        let mut listed = listed.map_err(at)?;
        listed.sort_by_key(fs::DirEntry::file_name);
        for child in listed {
            let child_name = child.file_name();
            let child_name = child_name
                .to_str()
                .ok_or_else(|| at(io::Error::other("it has a name that is not UTF-8")))?;
            add(writer, &child.path(), &format!("{name}/{child_name}"), skipped)?;
        }
    } else if kind.is_file() {
        let file = File::open(path).map_err(at)?;
        // The size that counts is the one of what is open now.
        let meta = file.metadata().map_err(at)?;
        writer.entry(&entry(name, Kind::File, &meta, meta.len()), file).map_err(at)?;
    } else if kind.is_symlink() {
        let target = fs::read_link(path).map_err(at)?;
        let mut link = entry(name, Kind::Symlink, &meta, 0);
        link.link = target.as_os_str().as_bytes().to_vec();
        writer.entry(&link, io::empty())?;
    } else {
        *skipped += 1;
    }
    Ok(())
}

fn entry(name: &str, kind: Kind, meta: &Metadata, size: u64) -> Entry {
    Entry {
        path: name.into(),
        kind,
        mode: meta.mode() & 0o777,
        // Users of this machine are not those of the container.
        uid: 0,
        gid: 0,
        size,
        mtime: (meta.mtime(), 0),
        link: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
        segments: None,
    }
}
