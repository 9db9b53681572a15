//! Records of PAX extended headers.

use super::{numbers, sparse};

/// The most extended attributes of one entry. The kernel's list of their names has 64 KiB, and files have a few.
const MAX_XATTRS: usize = 256;
/// The most bytes of their names and values together; one value has at most 64 KiB (xattr(7)).
const MAX_XATTR_BYTES: usize = 1 << 20;
/// The longest name or link target that is kept until it is compared with what is allowed, in bytes.
const MAX_NAME: usize = 64 << 10;

/// What the records say about the next entry, or about all that follow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    /// Extended attributes by name, in order; the last value of a name counts.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: PaxSparse,
}

/// What GNU tar's records say about holes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PaxSparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    /// The size of the file with its holes.
    pub real_size: Option<u64>,
    /// Offset and length by turns, of versions 0.0 and 0.1.
    pub map: Vec<u64>,
}

impl PaxSparse {
    /// Whether the entry has a map of holes at all.
    pub(crate) fn is_used(&self) -> bool {
        self.major.is_some() || self.real_size.is_some() || !self.map.is_empty()
    }
}

/// Adds the records in `bytes` to `pax`; a record with an empty value takes the earlier one back.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn parse(mut bytes: &[u8], pax: &mut Pax) -> Result<(), &'static str> {
    // Some archivers fill the block with NULs that count into the size.
    while !bytes.is_empty() && !bytes.iter().all(|b| *b == 0) {
        let space =
            bytes.iter().take(20).position(|b| *b == b' ').ok_or("a PAX record has no length")?;
        let length = numbers::decimal(&bytes[..space])
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n > space + 1 && *n <= bytes.len())
            .ok_or("the length of a PAX record is wrong")?;
        let record = bytes[space + 1..length]
            .strip_suffix(b"\n")
            .ok_or("a PAX record does not end in a newline")?;
        let equals = record
            .iter()
            .position(|b| *b == b'=')
            .filter(|at| *at > 0)
            .ok_or("a PAX record has no keyword")?;
        set(pax, &record[..equals], &record[equals + 1..])?;
        bytes = &bytes[length..];
    }
    Ok(())
}

fn set(pax: &mut Pax, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    match key {
        b"path" => pax.path = name(value)?,
        b"linkpath" => pax.link = name(value)?,
        b"size" => pax.size = number(value)?,
        b"uid" => pax.uid = number(value)?,
        b"gid" => pax.gid = number(value)?,
        b"mtime" if value.is_empty() => pax.mtime = None,
        b"mtime" => {
            pax.mtime = Some(numbers::time(value).ok_or("the time in a PAX record is none")?);
        }
        b"GNU.sparse.major" => pax.sparse.major = number(value)?,
        b"GNU.sparse.minor" => pax.sparse.minor = number(value)?,
        b"GNU.sparse.name" => pax.sparse.name = name(value)?,
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => pax.sparse.real_size = number(value)?,
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
            let is_offset = key.ends_with(b"offset");
            if pax.sparse.map.len().is_multiple_of(2) != is_offset {
                return Err("offsets and lengths of a sparse file do not alternate");
            }
            pax.sparse.map.push(number(value)?.ok_or("a sparse file's map has an empty number")?);
            // Here and not when the entry comes: any number of headers may come before it.
            if pax.sparse.map.len() / 2 > sparse::MAX_SEGMENTS {
                return Err("the map of a sparse file is too long");
            }
        }
        b"GNU.sparse.map" => {
            pax.sparse.map = value
                .split(|b| *b == b',')
                .filter(|n| !n.is_empty())
                .map(|n| numbers::decimal(n).ok_or("a sparse file's map is no list of numbers"))
                .collect::<Result<_, _>>()?;
        }
        other => {
            if let Some(attribute) = other.strip_prefix(b"SCHILY.xattr.") {
                set_xattr(&mut pax.xattrs, attribute, value)?;
            }
            // Keywords that are not known say nothing that an image's layer needs.
        }
    }
    Ok(())
}

/// What comes in header after header adds up, so it is bounded here.
fn set_xattr(
    xattrs: &mut Vec<(Vec<u8>, Vec<u8>)>,
    name: &[u8],
    value: &[u8],
) -> Result<(), &'static str> {
    if name.is_empty() || name.contains(&0) {
        return Err("the name of an extended attribute is none");
    }
    xattrs.retain(|(known, _)| known != name);
    if value.is_empty() {
        return Ok(());
    }
    let bytes: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if xattrs.len() == MAX_XATTRS || bytes + name.len() + value.len() > MAX_XATTR_BYTES {
        return Err("it has too many extended attributes");
    }
    xattrs.push((name.to_vec(), value.to_vec()));
    Ok(())
}

fn name(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err("a name in a PAX record has a NUL");
    }
    if value.len() > MAX_NAME {
        return Err("a name in a PAX record is too long");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn number(value: &[u8]) -> Result<Option<u64>, &'static str> {
    if value.is_empty() {
        return Ok(None);
    }
    numbers::decimal(value).map(Some).ok_or("a number in a PAX record is none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Pax, &'static str> {
        let mut pax = Pax::default();
        parse(bytes, &mut pax).map(|()| pax)
    }

    fn record(key: &str, value: &str) -> Vec<u8> {
        let rest = format!(" {key}={value}\n");
        let digits = (1..8).find(|d| (rest.len() + d).to_string().len() == *d).unwrap();
        format!("{}{rest}", rest.len() + digits).into_bytes()
    }

    #[test]
    fn what_adds_up_over_many_headers_is_bounded() {
        let feed = |many: usize, key: &dyn Fn(usize) -> String, value: &str| {
            let mut pax = Pax::default();
            (0..many).try_for_each(|n| parse(&record(&key(n), value), &mut pax))
        };
        let each = |n: usize| format!("SCHILY.xattr.user.{n}");
        feed(MAX_XATTRS, &each, "x").unwrap();
        assert!(feed(MAX_XATTRS + 1, &each, "x").unwrap_err().contains("too many"));
        feed(15, &each, &"x".repeat(64 << 10)).unwrap();
        assert!(feed(16, &each, &"x".repeat(64 << 10)).unwrap_err().contains("too many"));
        // The last value of a name takes the place of those before.
        feed(10_000, &|_| each(0), "x").unwrap();
        let name = |_: usize| "path".to_owned();
        feed(2, &name, &"x".repeat(MAX_NAME)).unwrap();
        assert!(feed(1, &name, &"x".repeat(MAX_NAME + 1)).unwrap_err().contains("too long"));
        let map = |n: usize| {
            let key = if n.is_multiple_of(2) { "offset" } else { "numbytes" };
            format!("GNU.sparse.{key}")
        };
        let most = 2 * sparse::MAX_SEGMENTS;
        feed(most, &map, "1").unwrap();
        assert!(feed(most + 2, &map, "1").unwrap_err().contains("too long"));
    }

    #[test]
    fn records_are_read_by_their_lengths() {
        let pax = read(b"12 path=a\nb\n11 uid=123\n9 gid=12\n20 mtime=1.500000000\n32 SCHILY.xattr.user.x=\x00\x01\x02 ab=\n")
            .map(|p| (p.path, p.uid, p.gid));
        // `12 path=a\nb\n` holds a newline inside its value.
        assert!(pax.is_err(), "the last length is wrong on purpose: {pax:?}");
        let pax = read(b"12 path=a\nb\n11 uid=123\n10 gid=12\n").unwrap();
        assert_eq!(
            (pax.path.as_deref(), pax.uid, pax.gid),
            (Some(&b"a\nb"[..]), Some(123), Some(12))
        );
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"path=a\n"[..],
            b"99 path=a\n",
            b"0 path=a\n",
            b"9 path=ab",
            b"10 path=a\0\n",
            b"5 =a\n",
            b"6 ab\n\n",
            b"9 uid=-1\n",
            b"99999999999999999999999 path=a\n",
            b"23 GNU.sparse.offset=1\n23 GNU.sparse.offset=1\n",
        ] {
            assert!(read(bad).is_err(), "{:?} was read", String::from_utf8_lossy(bad));
        }
    }
}
