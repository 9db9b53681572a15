//! Writes archives: ustar headers, with PAX records for what does not fit.

use std::io::{self, Read, Write};

use super::BLOCK;
use super::reader::{Entry, Kind};

/// Writes entries to a stream.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
}

impl<W: Write> Writer<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner }
    }

    /// Writes an entry; of a file, exactly `entry.size` bytes of `data`. Holes are written as zeros.
    ///
    /// # Errors
    /// The stream's; `UnexpectedEof` where `data` is shorter than the entry says.
    pub fn entry(&mut self, entry: &Entry, data: impl Read) -> io::Result<()> {
        let stored = self.head(entry)?;
        self.padded(&mut data.take(stored), stored)
    }

    /// Writes what stands before an entry's data; how much data is to follow.
    pub(crate) fn head(&mut self, entry: &Entry) -> io::Result<u64> {
        let records = records(entry);
        if !records.is_empty() {
            let mut extension = header(b'x', records.len() as u64, 0o644);
            put(&mut extension[..100], b"PaxHeaders/entry");
            self.block(extension)?;
            self.padded(&mut &records[..], records.len() as u64)?;
        }
        let stored = if entry.kind == Kind::File { entry.size } else { 0 };
        let flag = match entry.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::CharDevice => b'3',
            Kind::BlockDevice => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        };
        let mut block = header(flag, stored, entry.mode);
        put(&mut block[..100], &entry.path);
        put(&mut block[157..257], &entry.link);
        octal(&mut block[108..116], entry.uid);
        octal(&mut block[116..124], entry.gid);
        octal(&mut block[136..148], u64::try_from(entry.mtime.0).unwrap_or(0));
        octal(&mut block[329..337], entry.device.0.into());
        octal(&mut block[337..345], entry.device.1.into());
        self.block(block)?;
        Ok(stored)
    }

    /// The stream, without an end.
    pub(crate) fn into_inner(self) -> W {
        self.inner
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// The stream's.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&[0; 2 * BLOCK])?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn block(&mut self, mut block: [u8; BLOCK]) -> io::Result<()> {
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        octal(&mut block[148..155], sum);
        self.inner.write_all(&block)
    }

    fn padded(&mut self, data: &mut impl Read, size: u64) -> io::Result<()> {
        let copied = io::copy(data, &mut self.inner)?;
        if copied != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let rest = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if rest > 0 {
            self.inner.write_all(&[0; BLOCK][rest..])?;
        }
        Ok(())
    }
}

fn header(flag: u8, size: u64, mode: u32) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    octal(&mut block[100..108], mode.into());
    octal(&mut block[124..136], size);
    octal(&mut block[136..148], 0);
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block
}

/// As much of `text` as the field holds.
fn put(field: &mut [u8], text: &[u8]) {
    let n = text.len().min(field.len());
    field[..n].copy_from_slice(&text[..n]);
}

/// `number` in octal with a NUL after it, or zeros where it does not fit: a PAX record has it then.
fn octal(field: &mut [u8], number: u64) {
    let digits = field.len() - 1;
    let text = format!("{number:0digits$o}");
    let text = if text.len() > digits { "0".repeat(digits) } else { text };
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
}

fn records(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    if entry.path.len() > 100 {
        record(&mut out, b"path", &entry.path);
    }
    if entry.link.len() > 100 {
        record(&mut out, b"linkpath", &entry.link);
    }
    if entry.size > 0o77_777_777_777 {
        record(&mut out, b"size", entry.size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if id > 0o7_777_777 {
            record(&mut out, key, id.to_string().as_bytes());
        }
    }
    let (seconds, nanos) = entry.mtime;
    if nanos > 0 || !(0..=0o77_777_777_777).contains(&seconds) {
        // Nanoseconds count forward from a negative second, decimals away from zero.
        let text = match (seconds < 0, nanos) {
            (_, 0) => seconds.to_string(),
            (false, nanos) => format!("{seconds}.{nanos:09}"),
            (true, nanos) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
        };
        record(&mut out, b"mtime", text.as_bytes());
    }
    for (name, value) in &entry.xattrs {
        record(&mut out, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    out
}

/// `length key=value\n`, where the length counts its own digits.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        prop::sample::select(vec![
            Kind::File,
            Kind::HardLink,
            Kind::Symlink,
            Kind::CharDevice,
            Kind::Directory,
            Kind::Fifo,
        ])
    }

    prop_compose! {
        fn entries()(
            path in "[a-zä/]{1,240}[a-z]", kind in kinds(), mode in 0..0o10000_u32,
            uid in prop_oneof![0..10_u64, Just(4_000_000_000)], gid in 0..5_000_000_u64,
            size in 0..2000_u64, seconds in -5_000_000_000_i64..90_000_000_000, nanos in 0..1_000_000_000_u32,
            link in "[a-z]{0,150}", minor in 0..300_u32,
            xattrs in prop::collection::btree_map("[a-z.]{1,9}", prop::collection::vec(any::<u8>(), 1..300), 0..3),
        ) -> Entry {
            Entry {
                path: path.into_bytes(), kind, mode, uid, gid,
                size: if kind == Kind::File { size } else { 0 },
                mtime: (seconds, nanos), link: link.into_bytes(),
                device: if kind == Kind::CharDevice { (1, minor) } else { (0, 0) },
                xattrs: xattrs.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect(),
                segments: None,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(list in prop::collection::vec(entries(), 0..6)) {
            let mut writer = Writer::new(Vec::new());
            for entry in &list {
                writer.entry(entry, io::repeat(7)).unwrap();
            }
            let bytes = writer.finish().unwrap();
            let mut reader = Reader::new(&bytes[..], 4096);
            for entry in &list {
                let read = reader.next_entry().unwrap();
                prop_assert_eq!(read.as_ref(), Some(entry));
            }
            prop_assert_eq!(reader.next_entry().unwrap(), None);
        }

        #[test]
        fn no_bytes_make_the_reader_panic_or_go_on_for_ever(
            list in prop::collection::vec(entries(), 1..4),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut writer = Writer::new(Vec::new());
            for entry in &list {
                writer.entry(entry, io::repeat(7)).unwrap();
            }
            let mut bytes = writer.finish().unwrap();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            let most = bytes.len() / BLOCK + 2;
            let mut reader = Reader::new(&bytes[..], 4096);
            let mut entries = 0;
            while let Ok(Some(_)) = reader.next_entry() {
                entries += 1;
                prop_assert!(entries <= most);
            }
        }
    }
}
