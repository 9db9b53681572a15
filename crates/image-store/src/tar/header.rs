//! One header block.

use super::BLOCK;
use super::numbers;

/// A header block, by its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Name, with ustar's prefix before it.
    pub name: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: i64,
    pub type_flag: u8,
    pub link: Vec<u8>,
    pub device: (u32, u32),
}

/// What a block at the place of a header is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// All zeros: the end, or half of it.
    Zeros,
    /// A header.
    Header(Header),
}

/// The header in `block`.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn parse(block: &[u8; BLOCK]) -> Result<Parsed, &'static str> {
    if block.iter().all(|b| *b == 0) {
        return Ok(Parsed::Zeros);
    }
    if !is_checksum_good(block) {
        return Err("the header's checksum is wrong");
    }
    let is_ustar = &block[257..265] == b"ustar\x0000";
    let mut name = Vec::new();
    if is_ustar && block[345] != 0 {
        name.extend_from_slice(text(&block[345..500]));
        name.push(b'/');
    }
    name.extend_from_slice(text(&block[..100]));
    let has_devices = matches!(block[156], b'3' | b'4');
    let device = |at: std::ops::Range<usize>| {
        if has_devices {
            numbers::unsigned(&block[at])
                .and_then(|n| u32::try_from(n).ok())
                .ok_or("the device number is no number")
        } else {
            Ok(0)
        }
    };
    // Some archivers write the file type bits too; only the permissions count.
    let mode = numbers::field(&block[100..108]).ok_or("the mode is no number")? & 0o7777;
    Ok(Parsed::Header(Header {
        name,
        mode: u32::try_from(mode).map_err(|_| "the mode is no number")?,
        uid: numbers::unsigned(&block[108..116]).ok_or("the owner is no number")?,
        gid: numbers::unsigned(&block[116..124]).ok_or("the group is no number")?,
        size: numbers::unsigned(&block[124..136]).ok_or("the size is no number")?,
        mtime: numbers::field(&block[136..148]).ok_or("the time is no number")?,
        type_flag: block[156],
        link: text(&block[157..257]).to_vec(),
        device: (device(329..337)?, device(337..345)?),
    }))
}

/// The checksum counts bytes without sign; very old archivers counted with sign.
fn is_checksum_good(block: &[u8; BLOCK]) -> bool {
    let Some(given) = numbers::field(&block[148..156]) else { return false };
    let sum = |value: fn(u8) -> i64| -> i64 {
        block
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { i64::from(b' ') } else { value(*b) })
            .sum()
    };
    given == sum(i64::from) || given == sum(|b| i64::from(b.cast_signed()))
}

/// A field's bytes up to the first NUL.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}
