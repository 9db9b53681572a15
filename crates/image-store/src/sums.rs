//! Sizes and checksums of a layer's files, taken while they are written: they cost nothing then.
//!
//! The list is text but for the paths, each entry ended by a NUL: `F`, CRC-32 in eight hexadecimal
//! digits, a space, the size, a space, the path; `H`, size and path for a file with holes; `R` and a
//! path whose entries, and those below it, are taken back; at last `E` and the CRC-32 of all before.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum {
    pub size: u64,
    /// CRC-32 of its bytes; `None` for a file with holes.
    pub crc: Option<u32>,
}

/// The list while it is written.
#[derive(Debug)]
pub(crate) struct Sums<W: Write> {
    out: BufWriter<W>,
    crc: crc32fast::Hasher,
}

impl<W: Write> Sums<W> {
    pub fn new(out: W) -> Self {
        Self { out: BufWriter::new(out), crc: crc32fast::Hasher::new() }
    }

    pub fn file(&mut self, path: &Path, sum: Sum) -> io::Result<()> {
        let head = match sum.crc {
            Some(crc) => format!("F{crc:08x} {} ", sum.size),
            None => format!("H{} ", sum.size),
        };
        self.put(&[head.as_bytes(), path.as_os_str().as_bytes(), b"\0"])
    }

    pub fn removed(&mut self, path: &Path) -> io::Result<()> {
        self.put(&[b"R", path.as_os_str().as_bytes(), b"\0"])
    }

    pub fn finish(mut self) -> io::Result<()> {
        let end = format!("E{:08x}\0", self.crc.clone().finalize());
        self.put(&[end.as_bytes()])?;
        self.out.flush()
    }

    fn put(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            self.crc.update(part);
            self.out.write_all(part)?;
        }
        Ok(())
    }
}

/// The files of a list; `None` if it is damaged.
pub(crate) fn parse(bytes: &[u8]) -> Option<BTreeMap<PathBuf, Sum>> {
    let mut sums: BTreeMap<PathBuf, Sum> = BTreeMap::new();
    let mut at = 0;
    loop {
        let length = bytes[at..].iter().position(|b| *b == 0)?;
        let (letter, rest) = bytes[at..at + length].split_first()?;
        let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        match letter {
            b'F' => {
                let (crc, rest) = word(rest)?;
                let (size, rest) = word(rest)?;
                let crc = Some(u32::from_str_radix(crc, 16).ok()?);
                sums.insert(path(rest), Sum { size: size.parse().ok()?, crc });
            }
            b'H' => {
                let (size, rest) = word(rest)?;
                sums.insert(path(rest), Sum { size: size.parse().ok()?, crc: None });
            }
            b'R' => {
                let gone = path(rest);
                sums.retain(|p, _| !p.starts_with(&gone));
            }
            b'E' => {
                let crc = u32::from_str_radix(std::str::from_utf8(rest).ok()?, 16).ok()?;
                let is_whole = at + length + 1 == bytes.len();
                return (is_whole && crc32fast::hash(&bytes[..at]) == crc).then_some(sums);
            }
            _ => return None,
        }
        at += length + 1;
    }
}

fn word(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let space = bytes.iter().position(|b| *b == b' ')?;
    Some((std::str::from_utf8(&bytes[..space]).ok()?, &bytes[space + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut sums = Sums::new(&mut bytes);
        let sum = |size| Sum { size, crc: Some(7) };
        sums.file(Path::new("a b/c"), sum(1)).unwrap();
        sums.file(Path::new("a b/d"), sum(2)).unwrap();
        sums.file(Path::new("x"), sum(3)).unwrap();
        sums.removed(Path::new("a b")).unwrap();
        sums.file(Path::new("a b"), Sum { size: 4, crc: None }).unwrap();
        sums.finish().unwrap();
        bytes
    }

    #[test]
    fn what_was_written_last_counts() {
        let sums = parse(&list()).unwrap();
        let found: Vec<_> = sums.iter().map(|(p, s)| (p.to_str().unwrap(), s.size)).collect();
        assert_eq!(found, [("a b", 4), ("x", 3)]);
    }

    #[test]
    fn no_damage_goes_unseen() {
        let good = list();
        for cut in 0..good.len() {
            assert!(parse(&good[..cut]).is_none(), "cut at {cut}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(parse(&bad).is_none_or(|s| Some(s) == parse(&good)), "changed at {at}");
        }
    }
}
