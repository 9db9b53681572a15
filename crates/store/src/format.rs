//! The bytes of a record: a header line, then JSON (docs/formats/record.md).

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Something that can be recorded.
pub trait Record: Serialize + DeserializeOwned {
    /// Its kind, one lower-case word; a file of another kind in the same place is a bad record.
    const KIND: &'static str;
    /// The version of its shape. Raise it when an older reader would misread the new shape;
    /// fields that may be missing (`#[serde(default)]`) need no new version.
    const VERSION: u32;

    /// The current shape of a body that an older version wrote.
    ///
    /// # Errors
    /// What is wrong with the body.
    fn upgrade(from: u32, body: &[u8]) -> Result<Self, serde_json::Error> {
        let _ = from;
        serde_json::from_slice(body)
    }
}

/// Why a file is not a record.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// The first line is not a header.
    #[error("no record header in the first line")]
    Header,
    /// It records something else.
    #[error("it is a record of kind {found:?}, not {expected:?}")]
    Kind {
        /// What the header says.
        found: String,
        /// What was looked for.
        expected: &'static str,
    },
    /// A newer program wrote it.
    #[error("it has version {found}, this program reads up to {known}")]
    Newer {
        /// What the header says.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// The body is shorter or longer than the header says.
    #[error("its body has {found} bytes, the header says {expected}")]
    Length {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// The body is not what was written.
    #[error("its checksum is {found:08x}, the header says {expected:08x}")]
    Checksum {
        /// CRC-32 of the body.
        found: u32,
        /// CRC-32 in the header.
        expected: u32,
    },
    /// The body does not have the shape of its kind.
    #[error("its body does not parse: {0}")]
    Body(#[from] serde_json::Error),
}

/// The bytes of `record`.
///
/// # Errors
/// A record that JSON has no form for.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>, serde_json::Error> {
    let body = serde_json::to_vec(record)?;
    let crc = crc32fast::hash(&body);
    let mut out =
        format!("isopod-record {} {} {crc:08x} {}\n", R::KIND, R::VERSION, body.len()).into_bytes();
    out.extend_from_slice(&body);
    out.push(b'\n');
    Ok(out)
}

/// The record in `bytes`.
///
/// # Errors
/// [`BadRecord`].
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, BadRecord> {
    let end = bytes.iter().take(200).position(|b| *b == b'\n').ok_or(BadRecord::Header)?;
    let header = std::str::from_utf8(&bytes[..end]).map_err(|_| BadRecord::Header)?;
    let mut words = header.split(' ');
    let mut word = || words.next().ok_or(BadRecord::Header);
    if word()? != "isopod-record" {
        return Err(BadRecord::Header);
    }
    let kind = word()?;
    let version: u32 = word()?.parse().map_err(|_| BadRecord::Header)?;
    let expected_crc = u32::from_str_radix(word()?, 16).map_err(|_| BadRecord::Header)?;
    let expected_len: usize = word()?.parse().map_err(|_| BadRecord::Header)?;
    if kind != R::KIND {
        return Err(BadRecord::Kind { found: kind.to_owned(), expected: R::KIND });
    }
    if version > R::VERSION {
        return Err(BadRecord::Newer { found: version, known: R::VERSION });
    }
    let rest = &bytes[end + 1..];
    let body = match rest.strip_suffix(b"\n") {
        Some(body) if body.len() == expected_len => body,
        Some(_) | None => {
            return Err(BadRecord::Length {
                found: rest.len().saturating_sub(1),
                expected: expected_len,
            });
        }
    };
    let found = crc32fast::hash(body);
    if found != expected_crc {
        return Err(BadRecord::Checksum { found, expected: expected_crc });
    }
    if version < R::VERSION {
        Ok(R::upgrade(version, body)?)
    } else {
        Ok(serde_json::from_slice(body)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Note {
        text: String,
    }

    impl Record for Note {
        const KIND: &'static str = "note";
        const VERSION: u32 = 2;
    }

    #[test]
    fn the_format_is_the_documented_one() {
        let bytes = encode(&Note { text: "hi".into() }).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "isopod-record note 2 ca47c4d8 13\n{\"text\":\"hi\"}\n"
        );
    }

    #[test]
    fn each_kind_of_damage_is_named() {
        let good = String::from_utf8(encode(&Note { text: "hi".into() }).unwrap()).unwrap();
        let says = |s: &str| decode::<Note>(s.as_bytes()).unwrap_err().to_string();
        assert!(says("").contains("header"));
        assert!(says("{}").contains("header"));
        assert!(says(&good.replace("note", "nose")).contains("kind"));
        assert!(says(&good.replace(" 2 ", " 3 ")).contains("version 3"));
        assert!(says(&good[..good.len() - 2]).contains("bytes"));
        assert!(says(&good.replace("hi", "ho")).contains("checksum"));
        let body = "{}";
        let bad =
            format!("isopod-record note 2 {:08x} 2\n{body}\n", crc32fast::hash(body.as_bytes()));
        assert!(says(&bad).contains("does not parse"));
    }

    proptest! {
        #[test]
        fn no_single_changed_byte_goes_unseen(text in "\\PC{0,40}", at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
            let note = Note { text };
            let mut bytes = encode(&note).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            // A change in the header's digits may only be one that means the same (`A` for `a`).
            if let Ok(read) = decode::<Note>(&bytes) {
                prop_assert_eq!(read, note);
            }
        }
    }
}
