//! As much of X.690 as keys and certificates need: definite lengths, one-byte tags.

/// Elements, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Der<'a>(pub &'a [u8]);

/// One element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    /// With its head.
    pub whole: &'a [u8],
}

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const BOOLEAN: u8 = 0x01;

impl<'a> Der<'a> {
    /// The next element; `None` at the end, and for what is none.
    pub fn next(&mut self) -> Option<Element<'a>> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = if *first < 0x80 {
            (usize::from(*first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) || rest.len() < count {
                return None;
            }
            let (bytes, rest) = rest.split_at(count);
            (bytes.iter().fold(0_usize, |sum, b| (sum << 8) | usize::from(*b)), rest)
        };
        let content = rest.get(..length)?;
        let head = self.0.len() - rest.len();
        let whole = &self.0[..head + length];
        self.0 = &rest[length..];
        Some(Element { tag: *tag, content, whole })
    }

    /// The next element, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|e| e.tag == tag)
    }
}

impl<'a> Element<'a> {
    /// The elements inside.
    pub const fn inside(&self) -> Der<'a> {
        Der(self.content)
    }
}

/// The bytes of a bit string of whole bytes.
pub(crate) fn bits<'a>(element: &Element<'a>) -> Option<&'a [u8]> {
    match element.content.split_first() {
        Some((0, bytes)) if element.tag == BIT_STRING => Some(bytes),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_and_lengths_that_lie_are_not() {
        let mut der = Der(&[0x30, 3, 0x04, 1, 7, 0x0c, 0x81, 1, b'x']);
        let sequence = der.expect(SEQUENCE).unwrap();
        assert_eq!(sequence.inside().expect(OCTET_STRING).unwrap().content, [7]);
        assert_eq!(sequence.whole.len(), 5);
        assert_eq!(der.next().unwrap().content, b"x");
        assert!(der.next().is_none());
        for bad in [&[0x30][..], &[0x30, 2, 0], &[0x30, 0x80], &[0x30, 0x85, 1, 1, 1, 1, 1]] {
            assert!(Der(bad).next().is_none(), "{bad:?}");
        }
        // The longest length that four bytes can say.
        assert!(Der(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0]).next().is_none());
    }
}
