//! Entries, one after the other.

use std::io::{self, Read};

use super::header::{self, Header, Parsed};
use super::pax::{self, Pax};
use super::sparse::{self, Segment};
use super::{BLOCK, BadArchive, numbers, shown};

/// The most bytes of one extended header: PAX records hold extended attributes of up to 64 KiB each.
const MAX_EXTENSION: u64 = 4 << 20;

/// Why reading stops.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream failed.
    #[error("the archive cannot be read")]
    Io(#[from] io::Error),
    /// The archive is malformed.
    #[error(transparent)]
    Bad(#[from] BadArchive),
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// One more name of an entry before it.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// An entry, with all that extended headers said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name as the archive has it; nothing is checked but that it has no NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Bytes of the file, holes included. 0 for what is no file.
    pub size: u64,
    /// Modification time: seconds since 1970 and nanoseconds after.
    pub mtime: (i64, u32),
    /// Target of a link.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data of a sparse file goes; `None` for all in one piece.
    pub segments: Option<Vec<Segment>>,
}

/// Reads the entries of a stream.
///
/// The data of the entry that came last is read from the reader itself; what is left of it is skipped.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    /// Data of the current entry that is not read yet, and the padding after it.
    left: u64,
    padding: u64,
    global: Pax,
    count: u64,
    is_ended: bool,
    max_path: usize,
}

impl<R: Read> Reader<R> {
    /// Reads from `inner`. Names and link targets longer than `max_path` bytes are refused.
    pub fn new(inner: R, max_path: usize) -> Self {
        Self {
            inner,
            left: 0,
            padding: 0,
            global: Pax::default(),
            count: 0,
            is_ended: false,
            max_path,
        }
    }

    /// The stream, at the place that was read last.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The stream, while entries are read from it.
    pub(crate) fn inner_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// The next entry; `None` at the end of the archive: two blocks of zeros, or the end of the stream
    /// at the end of an entry, padded or not.
    ///
    /// # Errors
    /// [`TarError`]; the reader is of no more use then.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut local = Pax::default();
        let mut gnu_name = None;
        let mut gnu_link = None;
        loop {
            let Some((header, block)) = self.next_header()? else {
                return Ok(None);
            };
            match header.type_flag {
                b'x' | b'X' => {
                    let records = self.extension(&header)?;
                    pax::parse(&records, &mut local).map_err(|p| self.bad(&header.name, p))?;
                }
                b'g' => {
                    let records = self.extension(&header)?;
                    let mut global = std::mem::take(&mut self.global);
                    pax::parse(&records, &mut global).map_err(|p| self.bad(&header.name, p))?;
                    self.global = global;
                }
                b'L' => gnu_name = Some(header::text(&self.extension(&header)?).to_vec()),
                b'K' => gnu_link = Some(header::text(&self.extension(&header)?).to_vec()),
                // The name of the tape.
                b'V' => self.open_data(header.size),
                _ => {
                    let names = Names { gnu_name, gnu_link };
                    return self.finish(header, &block, local, names).map(Some);
                }
            }
        }
    }

    /// Skips to the next header block; `None` at the end.
    fn next_header(&mut self) -> Result<Option<(Header, [u8; BLOCK])>, TarError> {
        if self.is_ended {
            return Ok(None);
        }
        self.skip_rest()?;
        let mut block = [0; BLOCK];
        if self.is_ended || !self.read_block(&mut block)? {
            self.is_ended = true;
            return Ok(None);
        }
        self.count += 1;
        let number = format!("number {}", self.count);
        match header::parse(&block).map_err(|p| self.bad(number.as_bytes(), p))? {
            Parsed::Header(header) => Ok(Some((header, block))),
            Parsed::Zeros => {
                self.is_ended = true;
                let mut second = [0; BLOCK];
                if self.read_block(&mut second)? && second.iter().any(|b| *b != 0) {
                    return Err(self.bad(number.as_bytes(), "one block of zeros stands alone"));
                }
                Ok(None)
            }
        }
    }

    /// What is left of the current entry's data, and its padding.
    fn skip_rest(&mut self) -> Result<(), TarError> {
        let mut buffer = [0; 8192];
        while self.left > 0 {
            let want = buffer.len().min(usize::try_from(self.left).unwrap_or(buffer.len()));
            if self.read(&mut buffer[..want])? == 0 {
                return Err(self.bad(b"", "the archive ends in the middle of an entry"));
            }
        }
        while self.padding > 0 {
            let want = buffer.len().min(usize::try_from(self.padding).unwrap_or(buffer.len()));
            match read_some(&mut self.inner, &mut buffer[..want])? {
                // The last entry of some archives is not padded.
                0 => {
                    self.is_ended = true;
                    return Ok(());
                }
                n => self.padding -= n as u64,
            }
        }
        Ok(())
    }

    /// Fills a block; `false` if the stream ends before it, or inside it with nothing but zeros.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match read_some(&mut self.inner, &mut block[filled..])? {
                0 if block[..filled].iter().all(|b| *b == 0) => return Ok(false),
                0 => return Err(self.bad(b"", "the archive ends in the middle of a header")),
                n => filled += n,
            }
        }
        Ok(true)
    }

    fn open_data(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// The data of an extended header, as a whole.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        if header.size > MAX_EXTENSION {
            return Err(self.bad(&header.name, "its extended header is too long"));
        }
        self.open_data(header.size);
        let mut bytes = Vec::new();
        let mut limited = Read::take(&mut *self, MAX_EXTENSION);
        limited.read_to_end(&mut bytes)?;
        if bytes.len() as u64 == header.size {
            Ok(bytes)
        } else {
            Err(self.bad(&header.name, "the archive ends in the middle of an extended header"))
        }
    }

    fn finish(
        &mut self,
        header: Header,
        block: &[u8; BLOCK],
        local: Pax,
        names: Names,
    ) -> Result<Entry, TarError> {
        let global = self.global.clone();
        let mut path =
            local.path.or(names.gnu_name).or(global.path).unwrap_or_else(|| header.name.clone());
        if let Some(name) = &local.sparse.name {
            path.clone_from(name);
        }
        let kind = match header.type_flag {
            b'0' | b'\0' | b'7' if path.ends_with(b"/") => Kind::Directory,
            b'0' | b'\0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let problem = format!("its type {:?} is not supported", char::from(other));
                return Err(self.bad(&path, &problem));
            }
        };
        let link = local.link.or(names.gnu_link).or(global.link).unwrap_or(header.link);
        for (what, text) in [("name", &path), ("link target", &link)] {
            if text.len() > self.max_path {
                let problem = format!("its {what} is longer than {} bytes", self.max_path);
                return Err(self.bad(&path, &problem));
            }
        }
        let stored =
            if kind == Kind::File { local.size.or(global.size).unwrap_or(header.size) } else { 0 };
        self.open_data(stored);
        let mut xattrs = global.xattrs;
        for (name, value) in local.xattrs {
            xattrs.retain(|(n, _)| *n != name);
            xattrs.push((name, value));
        }
        let mut entry = Entry {
            path,
            kind,
            mode: header.mode,
            uid: local.uid.or(global.uid).unwrap_or(header.uid),
            gid: local.gid.or(global.gid).unwrap_or(header.gid),
            size: stored,
            mtime: local.mtime.or(global.mtime).unwrap_or((header.mtime, 0)),
            link,
            device: header.device,
            xattrs,
            segments: None,
        };
        if header.type_flag == b'S' {
            self.old_sparse(block, &mut entry)?;
        } else if kind == Kind::File && local.sparse.is_used() {
            self.pax_sparse(&local.sparse, &mut entry)?;
        }
        Ok(entry)
    }

    /// GNU tar's old format: pairs in the header, then in blocks of their own before the data.
    fn old_sparse(&mut self, block: &[u8; BLOCK], entry: &mut Entry) -> Result<(), TarError> {
        let mut pairs = Vec::new();
        let bad = |s: &Self, p| s.bad(&entry.path, p);
        sparse::add_old_pairs(&block[386..482], &mut pairs).map_err(|p| bad(self, p))?;
        let real_size = numbers::unsigned(&block[483..495])
            .ok_or_else(|| bad(self, "its real size is no number"))?;
        let mut more = block[482] != 0;
        while more {
            let mut next = [0; BLOCK];
            if !self.read_block(&mut next)? {
                return Err(bad(self, "the archive ends in the map of a sparse file"));
            }
            sparse::add_old_pairs(&next[..504], &mut pairs).map_err(|p| bad(self, p))?;
            more = next[504] != 0;
        }
        let segments = sparse::from_numbers(&pairs, real_size, entry.size);
        entry.segments = Some(segments.map_err(|p| bad(self, p))?);
        entry.size = real_size;
        Ok(())
    }

    /// The formats 0.0, 0.1 and 1.0 of GNU tar's PAX records.
    fn pax_sparse(&mut self, pax: &pax::PaxSparse, entry: &mut Entry) -> Result<(), TarError> {
        let path = entry.path.clone();
        let real_size =
            pax.real_size.ok_or_else(|| self.bad(&path, "a sparse file has no real size"))?;
        let pairs = match (pax.major, pax.minor) {
            (None | Some(0), _) => pax.map.clone(),
            (Some(1), Some(0)) => self.map_before_data(&path)?,
            _ => return Err(self.bad(&path, "its sparse format is not known")),
        };
        let segments = sparse::from_numbers(&pairs, real_size, self.left);
        entry.segments = Some(segments.map_err(|p| self.bad(&path, p))?);
        entry.size = real_size;
        Ok(())
    }

    /// The map of format 1.0: decimal numbers, each with a newline, filled up to whole blocks.
    fn map_before_data(&mut self, path: &[u8]) -> Result<Vec<u64>, TarError> {
        let mut block = [0; BLOCK];
        let mut at = BLOCK;
        let mut wanted: Option<usize> = None;
        let mut pairs = Vec::new();
        let mut digits = Vec::new();
        while wanted.is_none_or(|w| pairs.len() < w) {
            if at == BLOCK {
                if self.left < BLOCK as u64 || !self.read_block(&mut block)? {
                    return Err(self.bad(path, "the archive ends in the map of a sparse file"));
                }
                self.left -= BLOCK as u64;
                at = 0;
            }
            let byte = block[at];
            at += 1;
            if byte != b'\n' {
                digits.push(byte);
                if digits.len() > 20 {
                    return Err(self.bad(path, "the map of a sparse file has no numbers"));
                }
                continue;
            }
            let number = numbers::decimal(&digits)
                .ok_or_else(|| self.bad(path, "the map of a sparse file has no numbers"))?;
            digits.clear();
            match wanted {
                Some(_) => pairs.push(number),
                None if number > sparse::MAX_SEGMENTS as u64 => {
                    return Err(self.bad(path, "the map of a sparse file is too long"));
                }
                None => wanted = usize::try_from(number).ok().map(|n| n * 2),
            }
        }
        Ok(pairs)
    }

    fn bad(&self, name: &[u8], problem: &str) -> TarError {
        let entry = if name.is_empty() { format!("number {}", self.count) } else { shown(name) };
        TarError::Bad(BadArchive { entry, problem: problem.to_owned() })
    }
}

struct Names {
    gnu_name: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
}

/// The data of the current entry; holes are not in it.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = read_some(&mut self.inner, &mut buffer[..want])?;
        self.left -= n as u64;
        Ok(n)
    }
}

fn read_some(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
