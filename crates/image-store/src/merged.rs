//! Layers seen as one tree, the way overlayfs shows them, without a mount.
//!
//! Always: one name at a time, relative to a descriptor, no link followed by the kernel; links are
//! resolved here, inside the root.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::layout::{open_dir, open_host_dir};
use crate::overlay;

/// Links that are followed on the way to one file.
const MAX_LINKS: usize = 40;
/// Directories on the way to one file: each takes a descriptor per layer while the way is walked.
const MAX_DEPTH: usize = 64;

/// A directory: the same directory of each layer that shows, the topmost first. Empty only for a
/// root without layers.
#[derive(Debug)]
pub(crate) struct MergedDir {
    parts: Vec<OwnedFd>,
}

/// What is at a name.
#[derive(Debug)]
pub(crate) enum Node {
    Directory(MergedDir),
    /// Anything else, in the layer that shows it.
    Other {
        parent: OwnedFd,
        name: OsString,
        stat: Stat,
    },
}

impl MergedDir {
    /// The root of the layers at `roots`, the topmost first.
    pub fn open(roots: &[PathBuf]) -> Result<Self, (PathBuf, Errno)> {
        let mut parts = Vec::with_capacity(roots.len());
        for root in roots {
            let fd = open_host_dir(root).map_err(|e| (root.clone(), e))?;
            let is_opaque = overlay::is_opaque(&fd).map_err(|e| (root.clone(), e))?;
            parts.push(fd);
            if is_opaque {
                break;
            }
        }
        Ok(Self { parts })
    }

    pub fn try_clone(&self) -> std::io::Result<Self> {
        let parts = self.parts.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>()?;
        Ok(Self { parts })
    }

    /// The directory whose owner, mode and times show.
    pub fn top(&self) -> Option<&OwnedFd> {
        self.parts.first()
    }

    /// What is at `name`; `None` if nothing is, or it is hidden.
    pub fn lookup(&self, name: &OsStr) -> Result<Option<Node>, Errno> {
        let mut found: Vec<OwnedFd> = Vec::new();
        for part in &self.parts {
            let stat = match statat(part, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(e),
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                let fd = open_dir(part, name)?;
                let is_opaque = overlay::is_opaque(&fd)?;
                found.push(fd);
                if is_opaque {
                    break;
                }
                continue;
            }
            let is_whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
            if found.is_empty() && !is_whiteout {
                let parent = part.try_clone().map_err(|_| Errno::MFILE)?;
                return Ok(Some(Node::Other { parent, name: name.to_owned(), stat }));
            }
            break;
        }
        Ok(if found.is_empty() { None } else { Some(Node::Directory(Self { parts: found })) })
    }

    /// Every name in the directory that is not hidden, sorted.
    pub fn names(&self) -> std::io::Result<Vec<OsString>> {
        let mut all = BTreeSet::new();
        for part in &self.parts {
            all.extend(crate::layout::names(part)?);
        }
        let mut shown = Vec::with_capacity(all.len());
        for name in all {
            if self.lookup(&name)?.is_some() {
                shown.push(name);
            }
        }
        Ok(shown)
    }

    /// What is at `path`, through links inside the root. `None` if nothing is.
    pub fn resolve(&self, path: &Path) -> Result<Option<Node>, Errno> {
        let mut todo: Vec<OsString> = Vec::new();
        push_parts(&mut todo, path.as_os_str().as_bytes());
        let mut at: Vec<Self> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            match at.last().unwrap_or(self).lookup(&name)? {
                None => return Ok(None),
                Some(Node::Directory(next)) if at.len() < MAX_DEPTH => at.push(next),
                Some(Node::Directory(_)) => return Err(Errno::NAMETOOLONG),
                Some(Node::Other { parent, name, stat }) => {
                    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                        let is_last = todo.is_empty();
                        return Ok(is_last.then_some(Node::Other { parent, name, stat }));
                    }
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = readlinkat(&parent, &name, Vec::new())?;
                    if target.as_bytes().starts_with(b"/") {
                        at.clear();
                    }
                    push_parts(&mut todo, target.as_bytes());
                }
            }
        }
        let directory = match at.pop() {
            Some(directory) => directory,
            None => self.try_clone().map_err(|_| Errno::MFILE)?,
        };
        Ok(Some(Node::Directory(directory)))
    }

    /// The directory at `path`, with no link on the way; `None` if there is none.
    pub fn directory(&self, path: &Path) -> Result<Option<Self>, Errno> {
        let mut at: Option<Self> = None;
        for name in path {
            match at.as_ref().unwrap_or(self).lookup(name)? {
                Some(Node::Directory(next)) => at = Some(next),
                Some(Node::Other { .. }) | None => return Ok(None),
            }
        }
        match at {
            Some(directory) => Ok(Some(directory)),
            None => self.try_clone().map(Some).map_err(|_| Errno::MFILE),
        }
    }
}

/// Opens the regular file `name`; a device or pipe that took its place is not waited for.
pub(crate) fn open_file(parent: &OwnedFd, name: &OsStr) -> Result<Option<std::fs::File>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(parent, name, flags, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    Ok((kind == FileType::RegularFile).then(|| fd.into()))
}

/// Puts the parts of `path` on the stack, the first on top.
fn push_parts(todo: &mut Vec<OsString>, path: &[u8]) {
    for part in path.split(|b| *b == b'/').rev() {
        if !part.is_empty() && part != b"." {
            todo.push(OsStr::from_bytes(part).to_owned());
        }
    }
}
