//! Files of this machine as a tar.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use image_store::tar::{Entry, Kind, Writer};

/// Adds a file, or a directory with all that is in it. Links are copied as links;
/// devices, pipes and sockets are counted in `skipped`.
pub fn add<W: Write>(
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
