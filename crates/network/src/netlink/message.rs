//! Messages and attributes as bytes (netlink(7), rtnetlink(7)).

pub(crate) const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;

/// Flags of a message.
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const EXCL: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
}

/// A message in the making: header, fixed part, attributes.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of this kind with these flags (REQUEST is added) and this fixed part.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        let mut message = Self { bytes };
        message.pad();
        message
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Adds an attribute.
    pub(crate) fn bytes(&mut self, kind: u16, data: &[u8]) -> &mut Self {
        let length = u16::try_from(ATTRIBUTE_HEADER + data.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(data);
        self.pad();
        self
    }

    /// Adds a number in the machine's byte order.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network byte order, as netfilter wants them.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a text that ends with a zero byte.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut data = value.as_bytes().to_vec();
        data.push(0);
        self.bytes(kind, &data)
    }

    /// Adds an attribute whose content `fill` writes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.open(kind | NESTED, fill)
    }

    /// The same without the NESTED bit, where the kernel's attribute begins with a struct.
    pub(crate) fn open(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes(kind, &[]);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Adds bytes as they are: a struct at the beginning of an attribute.
    pub(crate) fn raw(&mut self, data: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(data);
        self.pad();
        self
    }

    /// The finished bytes with this sequence number, and with ACK if `ack`.
    pub(crate) fn finish(mut self, sequence: u32, ack: bool) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        if ack {
            let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flag::ACK;
            self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        }
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// The attributes in some bytes. Ends at the first one that is cut.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The attributes after `fixed` bytes of a message's payload.
    pub(crate) fn after(payload: &'a [u8], fixed: usize) -> Self {
        Self { rest: payload.get(fixed..).unwrap_or_default() }
    }

    /// The first attribute of this kind.
    pub(crate) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find(|(found, _)| *found == kind).map(|(_, data)| data)
    }

    /// The attributes inside the first attribute of this kind.
    pub(crate) fn nested(&self, kind: u16) -> Self {
        Self { rest: self.get(kind).unwrap_or_default() }
    }

    /// A number in the machine's byte order.
    pub(crate) fn u32(&self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.get(kind)?.get(..4)?.try_into().ok()?))
    }

    /// A text up to its zero byte.
    pub(crate) fn text(&self, kind: u16) -> Option<&'a str> {
        let data = self.get(kind)?;
        let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
        std::str::from_utf8(&data[..end]).ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [l0, l1, k0, k1] = *self.rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let kind = u16::from_ne_bytes([k0, k1]) & KIND_MASK;
        let data = self.rest.get(ATTRIBUTE_HEADER..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut message = Message::new(16, flag::CREATE, &[7; 5]);
        message.text(3, "eth0").nest(18, |m| {
            m.u32(1, 0xdead_beef).bytes(2, &[9]);
        });
        let bytes = message.finish(42, true);
        assert_eq!(
            bytes.len(),
            usize::try_from(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).unwrap()
        );
        assert_eq!(u16::from_ne_bytes([bytes[6], bytes[7]]), 0x405);
        let attributes = Attributes::after(&bytes[HEADER..], 8);
        assert_eq!(attributes.text(3), Some("eth0"));
        let inner = attributes.nested(18);
        assert_eq!((inner.u32(1), inner.get(2)), (Some(0xdead_beef), Some(&[9][..])));
        assert_eq!(attributes.get(99), None);
    }

    #[test]
    fn attributes_that_are_cut_or_lie_about_their_length_end_the_list() {
        for bad in [&[][..], &[8, 0], &[2, 0, 1, 0], &[0, 0, 0, 0, 0, 0], &[255, 255, 1, 0, 1, 1]] {
            assert_eq!(Attributes::after(bad, 0).count(), 0, "{bad:?}");
        }
    }
}
