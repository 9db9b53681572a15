//! The way to an entry's directory.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, mkdirat, openat, readlinkat, statat, unlinkat};
use rustix::io::Errno;

use super::{Fault, Missing, Place, Tree, cannot};
use crate::layout::open_dir;
use crate::overlay::{self, Existing, existing};

/// Links that are followed on the way to one entry.
const MAX_LINKS: usize = 40;

impl Tree {
    /// The directory `path`, through links inside the layer; directories that are missing are made
    /// and noted as implied.
    pub(super) fn place(&mut self, path: &Path, missing: Missing) -> Result<Rc<Place>, Fault> {
        if let Some((given, place)) = &self.last
            && given == path
        {
            return Ok(Rc::clone(place));
        }
        let place = Rc::new(self.walk(path, missing)?);
        self.last = Some((path.to_owned(), Rc::clone(&place)));
        Ok(place)
    }

    /// One descriptor is open on the way, however long the path is.
    fn walk(&mut self, path: &Path, missing: Missing) -> Result<Place, Fault> {
        let mut todo: Vec<OsString> = Vec::new();
        push_parts(&mut todo, path.as_os_str().as_bytes());
        let mut here = self.root.try_clone().map_err(cannot("duplicate a descriptor"))?;
        let mut names: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                // Nobody but this program moves anything here, so `..` is where the walk came from.
                if names.pop().is_some() {
                    here = up(&here).map_err(cannot("open a directory on the way"))?;
                }
                continue;
            }
            let was = existing(&here, &name).map_err(cannot("look at a directory on the way"))?;
            match was {
                Existing::Directory => {}
                Existing::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Fault::Bad("there are too many links on the way to it"));
                    }
                    let target = readlinkat(&here, &name, Vec::new())
                        .map_err(cannot("read a link on the way"))?;
                    if target.as_bytes().starts_with(b"/") {
                        names.clear();
                        here = self.root.try_clone().map_err(cannot("duplicate a descriptor"))?;
                    }
                    push_parts(&mut todo, target.as_bytes());
                    continue;
                }
                Existing::Nothing | Existing::Whiteout if missing == Missing::Make => {
                    let full: PathBuf = names.iter().chain([&name]).collect();
                    imply(&here, &name, was, self.hidden.contains(&full))?;
                    self.pending.whiteouts.remove(&full);
                    self.pending.implied.insert(full);
                }
                Existing::Nothing | Existing::Whiteout => {
                    return Err(Fault::Bad("its hard link leads to nothing in the layer"));
                }
                Existing::Other => {
                    return Err(Fault::Bad("what it should lie in is not a directory"));
                }
            }
            here = open_dir(&here, &name).map_err(cannot("open a directory on the way"))?;
            names.push(name);
        }
        Ok(Place { fd: here, path: names.iter().collect() })
    }
}

fn up(here: &OwnedFd) -> Result<OwnedFd, Errno> {
    openat(here, "..", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes a directory that has no entry (yet).
fn imply(parent: &OwnedFd, name: &OsStr, was: Existing, hides: bool) -> Result<(), Fault> {
    if was == Existing::Whiteout {
        unlinkat(parent, name, AtFlags::empty()).map_err(cannot("replace a whiteout"))?;
    }
    mkdirat(parent, name, Mode::RWXU).map_err(cannot("make a directory on the way"))?;
    let fd = open_dir(parent, name).map_err(cannot("open a directory on the way"))?;
    fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(cannot("set the mode of a directory"))?;
    if hides {
        overlay::set_opaque(&fd).map_err(cannot("mark a directory opaque"))?;
    }
    Ok(())
}

/// Puts the parts of `path` on the stack, the first on top.
fn push_parts(todo: &mut Vec<OsString>, path: &[u8]) {
    for part in path.split(|b| *b == b'/').rev() {
        if !part.is_empty() && part != b"." {
            todo.push(OsStr::from_bytes(part).to_owned());
        }
    }
}

/// Opens a directory of the layer by the path at which it was made, which has no links in it.
pub(super) fn open_below(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let mut fd =
        openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for part in path.components() {
        if let Component::Normal(name) = part {
            match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => fd = open_dir(&fd, name)?,
                Err(e) => return Err(e),
            }
        }
    }
    Ok(fd)
}
