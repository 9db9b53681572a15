//! D-Bus messages, as far as talking to systemd needs them (D-Bus specification, "Message Protocol").
//!
//! Pure. Ours are little-endian; what comes back is read in either order and never trusted for a length.

/// The longest message that is read, in bytes.
pub(super) const MAX_MESSAGE: usize = 1 << 20;
/// The part of a message whose length is fixed.
pub(super) const FIXED: usize = 16;

const LITTLE: u8 = b'l';
const METHOD_CALL: u8 = 1;
const VERSION: u8 = 1;

// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// The value of a unit's property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    Pids(Vec<u32>),
    Bytes(Vec<u8>),
}

/// A property of a unit.
pub(super) type Property = (&'static str, Value);

/// Bytes that grow with each part at its alignment.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    fn word(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.word(u32::from(value));
    }

    /// Texts here are names of units and values of our own: far from 4 GiB, and without NUL.
    pub(super) fn text(&mut self, value: &str) {
        self.word(length(value.len()));
        self.0.extend(value.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, value: &str) {
        self.byte(u8::try_from(value.len()).unwrap_or(u8::MAX));
        self.0.extend(value.as_bytes());
        self.0.push(0);
    }

    /// An array whose elements are aligned to `to`: its length does not count the padding before the first.
    fn array(&mut self, to: usize, elements: impl FnOnce(&mut Self)) {
        self.word(0);
        let at = self.0.len() - 4;
        self.align(to);
        let begin = self.0.len();
        elements(self);
        let bytes = length(self.0.len() - begin).to_le_bytes();
        self.0[at..at + 4].copy_from_slice(&bytes);
    }

    /// `a(sv)`.
    pub(super) fn properties(&mut self, properties: &[Property]) {
        self.array(8, |w| {
            for (name, value) in properties {
                w.align(8);
                w.text(name);
                w.variant(value);
            }
        });
    }

    /// `a(sa(sv))` without elements.
    pub(super) fn no_units(&mut self) {
        self.array(8, |_| {});
    }

    fn variant(&mut self, value: &Value) {
        match value {
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Flag(flag) => {
                self.signature("b");
                self.flag(*flag);
            }
            Value::Number(number) => {
                self.signature("t");
                self.align(8);
                self.0.extend(number.to_le_bytes());
            }
            Value::Pids(pids) => {
                self.signature("au");
                self.array(4, |w| pids.iter().for_each(|pid| w.word(*pid)));
            }
            Value::Bytes(bytes) => {
                self.signature("ay");
                self.array(1, |w| w.0.extend(bytes));
            }
        }
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Callee<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// A method call, ready to be sent.
pub(super) fn call(serial: u32, callee: Callee<'_>, signature: &str, body: Writer) -> Vec<u8> {
    let mut message = Writer::default();
    for byte in [LITTLE, METHOD_CALL, 0, VERSION] {
        message.byte(byte);
    }
    message.word(length(body.0.len()));
    message.word(serial);
    message.array(8, |w| {
        let texts = [
            (PATH, "o", callee.path),
            (INTERFACE, "s", callee.interface),
            (MEMBER, "s", callee.member),
            (DESTINATION, "s", callee.destination),
        ];
        for (field, kind, text) in texts {
            w.align(8);
            w.byte(field);
            w.signature(kind);
            w.text(text);
        }
        if !signature.is_empty() {
            w.align(8);
            w.byte(SIGNATURE);
            w.signature("g");
            w.signature(signature);
        }
    });
    message.align(8);
    message.0.extend(body.0);
    message.0
}

/// What kind of message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Return,
    Error,
    Signal,
    Other,
}

/// A message that came, as far as it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) reply_to: Option<u32>,
    pub(super) member: String,
    pub(super) error: String,
    big_endian: bool,
    body: Vec<u8>,
}

/// How many bytes follow the fixed part; `None` if it is the beginning of no message, or of one too long.
pub(super) fn rest_of(fixed: &[u8; FIXED]) -> Option<usize> {
    let big = is_big_endian(fixed[0])?;
    let word = |at: usize| {
        let bytes = [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
        let value = if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        usize::try_from(value).ok().filter(|n| *n <= MAX_MESSAGE)
    };
    let (body, fields) = (word(4)?, word(12)?);
    Some(fields.next_multiple_of(8) + body).filter(|rest| *rest <= MAX_MESSAGE)
}

fn is_big_endian(byte: u8) -> Option<bool> {
    match byte {
        LITTLE => Some(false),
        b'B' => Some(true),
        _ => None,
    }
}

impl Message {
    /// Reads a whole message; `None` if it is none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let big_endian = is_big_endian(*bytes.first()?)?;
        let mut r = Reader { bytes, at: 4, big_endian };
        let body_length = usize::try_from(r.word()?).ok()?;
        let _serial = r.word()?;
        let kind = match bytes.get(1)? {
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => Kind::Other,
        };
        let mut message = Self {
            kind,
            reply_to: None,
            member: String::new(),
            error: String::new(),
            big_endian,
            body: Vec::new(),
        };
        let end = usize::try_from(r.word()?).ok()?.checked_add(r.at)?;
        while r.at < end {
            r.align(8);
            let field = r.byte()?;
            match (field, r.signature()?.as_str()) {
                (MEMBER, "s") => message.member = r.text()?,
                (ERROR_NAME, "s") => message.error = r.text()?,
                (REPLY_SERIAL, "u") => message.reply_to = Some(r.word()?),
                (_, "s" | "o") => drop(r.text()?),
                (_, "g") => drop(r.signature()?),
                (_, "u") => drop(r.word()?),
                _ => return None,
            }
        }
        r.align(8);
        message.body = bytes.get(r.at..r.at.checked_add(body_length)?)?.to_vec();
        Some(message)
    }

    /// The body, to be read from its beginning.
    pub(super) fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0, big_endian: self.big_endian }
    }
}

/// Reads parts at their alignment; `None` beyond the end.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn word(&mut self) -> Option<u32> {
        self.align(4);
        let big = self.big_endian;
        let bytes = self.take(4)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// A string or an object path.
    pub(super) fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.word()?).ok()?;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.byte()?;
        Some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.byte()?;
        Some(text)
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! What the other side says.

    use super::*;

    fn message(
        kind: u8,
        fields: &[(u8, &str, &str)],
        reply_to: Option<u32>,
        body: Writer,
    ) -> Vec<u8> {
        let mut message = Writer::default();
        for byte in [LITTLE, kind, 0, VERSION] {
            message.byte(byte);
        }
        message.word(length(body.0.len()));
        message.word(1);
        message.array(8, |w| {
            for (field, signature, text) in fields {
                w.align(8);
                w.byte(*field);
                w.signature(signature);
                w.text(text);
            }
            if let Some(serial) = reply_to {
                w.align(8);
                w.byte(REPLY_SERIAL);
                w.signature("u");
                w.word(serial);
            }
        });
        message.align(8);
        message.0.extend(body.0);
        message.0
    }

    pub(in super::super) fn answer(serial: u32, text: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.text(text);
        message(2, &[], Some(serial), body)
    }

    pub(in super::super) fn refusal(serial: u32, name: &str, text: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.text(text);
        message(3, &[(ERROR_NAME, "s", name)], Some(serial), body)
    }

    pub(in super::super) fn job_removed(job: &str, result: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.word(7);
        for text in [job, "some.scope", result] {
            body.text(text);
        }
        message(4, &[(MEMBER, "s", "JobRemoved")], None, body)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CALLEE: Callee<'static> =
        Callee { destination: "a.b", path: "/c", interface: "d.e", member: "F" };

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let mut body = Writer::default();
        body.text("x");
        let bytes = call(7, CALLEE, "s", body);
        #[rustfmt::skip]
        let expected: &[u8] = &[
            b'l', 1, 0, 1, 6, 0, 0, 0, 7, 0, 0, 0, 71, 0, 0, 0,
            1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'c', 0, 0, 0, 0, 0, 0,
            2, 1, b's', 0, 3, 0, 0, 0, b'd', b'.', b'e', 0, 0, 0, 0, 0,
            3, 1, b's', 0, 1, 0, 0, 0, b'F', 0, 0, 0, 0, 0, 0, 0,
            6, 1, b's', 0, 3, 0, 0, 0, b'a', b'.', b'b', 0, 0, 0, 0, 0,
            8, 1, b'g', 0, 1, b's', 0, 0,
            1, 0, 0, 0, b'x', 0,
        ];
        assert_eq!(bytes, expected);
        let fixed: [u8; FIXED] = bytes[..FIXED].try_into().unwrap();
        assert_eq!(rest_of(&fixed), Some(bytes.len() - FIXED));
    }

    #[test]
    fn properties_have_their_values_at_their_alignment() {
        let mut w = Writer::default();
        w.properties(&[("A", Value::Number(5)), ("B", Value::Pids(vec![9]))]);
        #[rustfmt::skip]
        let expected: &[u8] = &[
            44, 0, 0, 0, 0, 0, 0, 0,
            1, 0, 0, 0, b'A', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0,
            5, 0, 0, 0, 0, 0, 0, 0,
            1, 0, 0, 0, b'B', 0, 2, b'a', b'u', 0, 0, 0,
            4, 0, 0, 0, 9, 0, 0, 0,
        ];
        // The second element begins at a multiple of eight, and its array right behind its signature.
        assert_eq!(w.0.len() - 8, usize::from(w.0[0]));
        assert_eq!(w.0[..32], expected[..32]);
        assert_eq!(w.0[32..], expected[32..]);
    }

    #[test]
    fn an_answer_is_read_with_what_matters_of_it() {
        let mut body = Writer::default();
        body.text("no such unit");
        // An error is a call but for its kind and fields; those of a call are read as well.
        let mut bytes = call(3, CALLEE, "s", body);
        bytes[1] = 3;
        let message = Message::read(&bytes).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (Kind::Error, "F"));
        assert_eq!(message.body().text().unwrap(), "no such unit");
        assert_eq!(message.body().word(), Some(12));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_broken_to_be_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(message) = Message::read(&bytes) {
                let mut body = message.body();
                while body.text().is_some() {}
            }
        }

        #[test]
        fn a_message_cut_short_is_refused(cut in 0_usize..94) {
            let mut body = Writer::default();
            body.text("x");
            let bytes = call(7, CALLEE, "s", body);
            prop_assert!(Message::read(&bytes).is_some());
            prop_assert!(Message::read(&bytes[..cut.min(bytes.len() - 1)]).is_none());
        }
    }
}
