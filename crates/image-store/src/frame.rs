//! What of a layer's archive is not in its files: with both, the archive can be written again, byte for
//! byte, and keeps its digest.
//!
//! Owns: the file `frame` beside a layer's files (docs/formats/image-store.md). Always: it is of use and
//! never needed. One that cannot be written, grows too large or does not fit the files any more costs the
//! archive's digest and nothing else; what is written with it is compared with that digest.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// The most bytes of an archive that a frame holds itself, before compression. Past it there is none.
const MOST: u64 = 64 << 20;
/// Bytes that are written at once.
const PIECE: usize = 64 << 10;
/// How far back the compression looks, as a power of two: headers repeat what is near.
const WINDOW: u32 = 17;

/// The frame while the archive passes.
pub(crate) struct Recorder {
    /// `None` once there will be no frame.
    out: Option<zstd::Encoder<'static, BufWriter<File>>>,
    /// The same file, to be emptied.
    file: File,
    held: Vec<u8>,
    /// Bytes that come next and are a file's.
    skip: u64,
    total: u64,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("total", &self.total).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Writes into `file`, which is empty.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(file: File) -> io::Result<Self> {
        let mut out = zstd::Encoder::new(BufWriter::new(file.try_clone()?), 1)?;
        out.window_log(WINDOW)?;
        Ok(Self { out: Some(out), file, held: Vec::new(), skip: 0, total: 0 })
    }

    /// The next `size` bytes of the archive are those of the layer's file `path`.
    pub fn file(&mut self, path: &Path, size: u64) {
        let path = path.as_os_str().as_bytes();
        let Ok(length) = u16::try_from(path.len()) else { return };
        self.put_held();
        self.put(&[b"F", &size.to_le_bytes(), &length.to_le_bytes(), path]);
        self.skip = size;
    }

    /// The next bytes of the archive.
    pub fn pass(&mut self, bytes: &[u8]) {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        if self.out.is_none() {
            return;
        }
        let held = &bytes[skipped..];
        self.total += held.len() as u64;
        if self.total > MOST {
            self.give_up();
            return;
        }
        self.held.extend_from_slice(held);
        if self.held.len() >= PIECE {
            self.put_held();
        }
    }

    /// The archive is over, and was the right one.
    pub fn finish(mut self) {
        self.put_held();
        self.put(&[b"E"]);
        let Some(out) = self.out.take() else { return };
        let flushed = out.finish().and_then(|mut buffered| buffered.flush());
        if flushed.is_err() {
            self.give_up();
        }
    }

    fn put_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let held = std::mem::take(&mut self.held);
        let length = u32::try_from(held.len()).unwrap_or(u32::MAX);
        self.put(&[b"D", &length.to_le_bytes(), &held]);
        self.held = held;
        self.held.clear();
    }

    fn put(&mut self, parts: &[&[u8]]) {
        let Some(out) = &mut self.out else { return };
        if parts.iter().try_for_each(|part| out.write_all(part)).is_err() {
            self.give_up();
        }
    }

    /// No frame, and nothing on the disk for it.
    fn give_up(&mut self) {
        // What is buffered would come after the cut.
        drop(self.out.take());
        self.held = Vec::new();
        let _ = self.file.set_len(0);
    }
}

/// Why an archive is not written again.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The frame or the files are not what they were, or there never was a frame.
    Useless,
    /// It cannot be written where it is to go.
    Write(io::Error),
}

/// Writes the archive whose frame is `frame` and whose files are below `root` to `out`. Whether it is the
/// right one, its digest tells.
pub(crate) fn write(frame: File, root: &OwnedFd, out: &mut impl Write) -> Result<(), Stop> {
    let decoder = zstd::Decoder::new(frame).map_err(|_| Stop::Useless)?;
    let mut frame = BufReader::with_capacity(PIECE, decoder);
    let mut buffer = vec![0; 2 * PIECE];
    loop {
        match &take::<1>(&mut frame)? {
            b"D" => {
                let length = u64::from(u32::from_le_bytes(take(&mut frame)?));
                copy(&mut frame, length, out, &mut buffer)?;
            }
            b"F" => {
                let size = u64::from_le_bytes(take(&mut frame)?);
                let length = usize::from(u16::from_le_bytes(take(&mut frame)?));
                let mut path = vec![0; length];
                frame.read_exact(&mut path).map_err(|_| Stop::Useless)?;
                let mut file = open(root, &path, size).ok_or(Stop::Useless)?;
                copy(&mut file, size, out, &mut buffer)?;
            }
            b"E" => return Ok(()),
            _ => return Err(Stop::Useless),
        }
    }
}

fn take<const N: usize>(from: &mut impl Read) -> Result<[u8; N], Stop> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map_err(|_| Stop::Useless)?;
    Ok(bytes)
}

/// Copies exactly `length` bytes.
fn copy(
    from: &mut impl Read,
    length: u64,
    out: &mut impl Write,
    buffer: &mut [u8],
) -> Result<(), Stop> {
    let mut left = length;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        from.read_exact(&mut buffer[..want]).map_err(|_| Stop::Useless)?;
        out.write_all(&buffer[..want]).map_err(Stop::Write)?;
        left -= want as u64;
    }
    Ok(())
}

/// A file of the layer with this size. Links on the way lead nowhere outside of the layer.
fn open(root: &OwnedFd, path: &[u8], size: u64) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let fd = openat2(root, path, flags, Mode::empty(), how).ok()?;
    let stat = fstat(&fd).ok()?;
    let is_it = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && u64::try_from(stat.st_size) == Ok(size);
    is_it.then(|| File::from(fd))
}
