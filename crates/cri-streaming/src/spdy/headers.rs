//! Header blocks: names and values, compressed over the whole connection.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::dictionary::dictionary;

/// Names (lower case) and values of a stream.
pub type Headers = Vec<(String, String)>;

/// The largest header block, in bytes when it is no longer compressed.
const MAX_BLOCK: usize = 64 << 10;
const LEVEL: Compression = Compression::fast();

/// A header block that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHeaders {
    /// It is no zlib stream with SPDY's dictionary.
    #[error("a header block that cannot be decompressed: {0}")]
    Compression(String),
    /// More than 64 KiB.
    #[error("a header block of more than {MAX_BLOCK} bytes")]
    TooLong,
    /// Lengths that do not fit, or bytes that are no text.
    #[error("a header block that makes no sense")]
    Malformed,
}

/// Compresses the header blocks of one direction of a connection, in their order.
#[derive(Debug)]
pub struct Compressor(Compress);

impl Default for Compressor {
    fn default() -> Self {
        let mut zlib = Compress::new(LEVEL, true);
        // It fails only when compression has begun already.
        let _ = zlib.set_dictionary(&dictionary());
        Self(zlib)
    }
}

impl Compressor {
    /// The next block.
    ///
    /// # Errors
    /// [`BadHeaders`] for a block that is too long.
    pub fn block(&mut self, headers: &Headers) -> Result<Bytes, BadHeaders> {
        let mut plain = BytesMut::new();
        let length = |n: usize| u32::try_from(n).map_err(|_| BadHeaders::TooLong);
        plain.put_u32(length(headers.len())?);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(length(text.len())?);
            plain.put_slice(text.as_bytes());
        }
        if plain.len() > MAX_BLOCK {
            return Err(BadHeaders::TooLong);
        }
        let mut out = Vec::with_capacity(plain.len() + 128);
        let mut rest = &plain[..];
        loop {
            let before = self.0.total_in();
            let failed = |e: flate2::CompressError| BadHeaders::Compression(e.to_string());
            self.0.compress_vec(rest, &mut out, FlushCompress::Sync).map_err(failed)?;
            let used = usize::try_from(self.0.total_in() - before).unwrap_or(rest.len());
            rest = &rest[used.min(rest.len())..];
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out.into());
            }
            out.reserve(1024);
        }
    }
}

/// Decompresses the header blocks of one direction of a connection, in their order.
#[derive(Debug)]
pub struct Decompressor(Decompress);

impl Default for Decompressor {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Decompressor {
    /// Reads the next block.
    ///
    /// # Errors
    /// [`BadHeaders`]; later blocks cannot be read after it.
    pub fn headers(&mut self, block: &[u8]) -> Result<Headers, BadHeaders> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, BadHeaders> {
        let mut out = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let before = self.0.total_in();
            let had = out.len();
            let result = self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            let used = usize::try_from(self.0.total_in() - before).unwrap_or(rest.len());
            rest = &rest[used.min(rest.len())..];
            match result {
                Err(e) if e.needs_dictionary().is_some() => {
                    let failed =
                        |e: flate2::DecompressError| BadHeaders::Compression(e.to_string());
                    self.0.set_dictionary(&dictionary()).map_err(failed)?;
                    continue;
                }
                Err(e) => return Err(BadHeaders::Compression(e.to_string())),
                Ok(_) => {}
            }
            if out.len() > MAX_BLOCK {
                return Err(BadHeaders::TooLong);
            }
            let is_stuck = used == 0 && out.len() == had;
            if (rest.is_empty() && out.len() < out.capacity()) || is_stuck {
                return Ok(out);
            }
            out.reserve(1024);
        }
    }
}

fn parse(mut bytes: &[u8]) -> Result<Headers, BadHeaders> {
    let word = |bytes: &mut &[u8]| {
        if bytes.len() < 4 { Err(BadHeaders::Malformed) } else { Ok(bytes.get_u32() as usize) }
    };
    let count = word(&mut bytes)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let mut text = || {
            let length = word(&mut bytes)?;
            let (text, rest) = bytes.split_at_checked(length).ok_or(BadHeaders::Malformed)?;
            bytes = rest;
            String::from_utf8(text.to_vec()).map_err(|_| BadHeaders::Malformed)
        };
        headers.push((text()?.to_ascii_lowercase(), text()?));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_of_one_connection_are_read_back_in_order(blocks in prop::collection::vec(
            prop::collection::vec(("[a-z0-9-]{1,20}", "\\PC{0,60}"), 0..6), 1..6)) {
            let mut compressor = Compressor::default();
            let mut decompressor = Decompressor::default();
            for headers in blocks {
                let block = compressor.block(&headers).unwrap();
                prop_assert_eq!(decompressor.headers(&block).unwrap(), headers);
            }
        }

        #[test]
        fn no_block_makes_the_decompressor_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Decompressor::default().headers(&bytes);
        }

        #[test]
        fn no_plain_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&dictionary()).unwrap();
        let mut block = Vec::with_capacity(1 << 20);
        compress.compress_vec(&vec![0; 8 << 20], &mut block, FlushCompress::Sync).unwrap();
        assert!(block.len() < MAX_BLOCK);
        assert_eq!(Decompressor::default().headers(&block), Err(BadHeaders::TooLong));
    }

    #[test]
    fn a_small_block_is_small_because_of_the_dictionary() {
        let headers = vec![("content-length".to_owned(), "0".to_owned())];
        assert!(Compressor::default().block(&headers).unwrap().len() < 30);
    }
}
