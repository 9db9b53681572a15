//! Tables, chains, maps, elements.

use std::io;

use super::expression::{Expression, value};
use crate::netlink::message::{Attributes, Message, flag};
use crate::netlink::socket::Socket;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const DELETE_ELEMENT: u16 = 14;

/// NFPROTO_INET: rules for IPv4 and IPv6 together.
const INET: u8 = 1;
/// struct nfgenmsg.
const GENERIC_SIZE: usize = 4;
const SET_IS_MAP: u32 = 8;
/// How nft(8) writes a comment: its kind, its length, the text with a zero.
const COMMENT: u8 = 0;

fn message(kind: u16, flags: u16) -> Message {
    Message::new((SUBSYSTEM << 8) | kind, flags, &[INET, 0, 0, 0])
}

/// Begins a batch.
pub(crate) fn begin() -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(BATCH_BEGIN, 0, &[0, 0, high, low])
}

/// Ends a batch.
pub(crate) fn end() -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(BATCH_END, 0, &[0, 0, high, low])
}

fn comment(text: &str) -> Vec<u8> {
    let mut data = vec![COMMENT, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    data.extend_from_slice(text.as_bytes());
    data.push(0);
    data
}

fn read_comment(data: &[u8]) -> Option<&str> {
    let [COMMENT, length, rest @ ..] = data else { return None };
    let text = rest.get(..usize::from(*length).checked_sub(1)?)?;
    std::str::from_utf8(text).ok()
}

/// A table as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Its name.
    pub(crate) name: String,
    /// The comment on it.
    pub(crate) comment: String,
}

/// Makes the table if it is not there.
pub(crate) fn add_table(name: &str, note: &str) -> Message {
    let mut message = message(NEW_TABLE, flag::CREATE);
    message.text(1, name).bytes(6, &comment(note));
    message
}

/// Deletes the table with everything in it; it must be there.
pub(crate) fn delete_table(name: &str) -> Message {
    let mut message = message(DELETE_TABLE, 0);
    message.text(1, name);
    message
}

/// The tables for both families.
pub(crate) fn list_tables(socket: &mut Socket) -> io::Result<Vec<Table>> {
    let answers = socket.ask(message(GET_TABLE, flag::DUMP))?;
    let read = |payload: &[u8]| -> Option<Table> {
        let attributes = Attributes::after(payload, GENERIC_SIZE);
        let comment = attributes.get(6).and_then(read_comment).unwrap_or_default();
        Some(Table { name: attributes.text(1)?.to_owned(), comment: comment.to_owned() })
    };
    Ok(answers.iter().filter_map(|payload| read(payload)).collect())
}

/// A chain that packets come through by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    /// `nat` or `filter`.
    pub(crate) kind: &'static str,
    /// The place in the packet's way: 0 prerouting, 2 forward, 3 output, 4 postrouting.
    pub(crate) hook: u32,
    /// The order among the chains of this place.
    pub(crate) priority: i32,
}

/// Makes the chain if it is not there; without `base` one that others jump to.
pub(crate) fn add_chain(table: &str, name: &str, base: Option<Chain>) -> Message {
    let mut message = message(NEW_CHAIN, flag::CREATE);
    message.text(1, table).text(3, name);
    if let Some(base) = base {
        message.nest(4, |m| {
            m.be32(1, base.hook).be32(2, base.priority.cast_unsigned());
        });
        message.text(7, base.kind);
    }
    message
}

/// Deletes the rules of the chain, which must be there.
pub(crate) fn flush_chain(table: &str, chain: &str) -> Message {
    let mut message = message(DELETE_RULE, 0);
    message.text(1, table).text(2, chain);
    message
}

/// Adds a rule at the end of the chain.
pub(crate) fn add_rule(table: &str, chain: &str, expressions: &[Expression<'_>]) -> Message {
    let mut message = message(NEW_RULE, flag::CREATE | flag::APPEND);
    message.text(1, table).text(2, chain).nest(4, |m| {
        for expression in expressions {
            expression.write(m);
        }
    });
    message
}

/// A map, or a set where it has no value. The types are nft(8)'s numbers, which the kernel only keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Map {
    /// Its name.
    pub(crate) name: &'static str,
    /// The key's type and length in bytes.
    pub(crate) key: (u32, u32),
    /// The value's type and length in bytes.
    pub(crate) value: Option<(u32, u32)>,
}

/// Makes the map if it is not there.
pub(crate) fn add_map(table: &str, map: &Map, id: u32) -> Message {
    let mut message = message(NEW_SET, flag::CREATE);
    let flags = if map.value.is_some() { SET_IS_MAP } else { 0 };
    message.text(1, table).text(2, map.name).be32(3, flags);
    message.be32(4, map.key.0).be32(5, map.key.1);
    if let Some((kind, length)) = map.value {
        message.be32(6, kind).be32(7, length);
    }
    message.be32(10, id);
    message
}

/// An element of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// The key's bytes.
    pub(crate) key: Vec<u8>,
    /// The value's bytes; empty in a set.
    pub(crate) value: Vec<u8>,
    /// Whose it is.
    pub(crate) comment: String,
}

fn elements(
    kind: u16,
    flags: u16,
    table: &str,
    map: &str,
    fill: impl FnOnce(&mut Message),
) -> Message {
    let mut message = message(kind, flags);
    message.text(1, table).text(2, map).nest(3, |m| {
        m.nest(1, fill);
    });
    message
}

/// Adds the element; one with the same key must not be there.
pub(crate) fn add_element(table: &str, map: &str, element: &Element) -> Message {
    elements(NEW_ELEMENT, flag::CREATE | flag::EXCL, table, map, |m| {
        value(m, 1, &element.key);
        if !element.value.is_empty() {
            value(m, 2, &element.value);
        }
        m.bytes(6, &comment(&element.comment));
    })
}

/// Deletes the element with this key, which must be there.
pub(crate) fn delete_element(table: &str, map: &str, key: &[u8]) -> Message {
    elements(DELETE_ELEMENT, 0, table, map, |m| value(m, 1, key))
}

/// The elements of the map.
pub(crate) fn list_elements(
    socket: &mut Socket,
    table: &str,
    map: &str,
) -> io::Result<Vec<Element>> {
    let mut request = message(GET_ELEMENT, flag::DUMP);
    request.text(1, table).text(2, map);
    let read = |element: &[u8]| -> Option<Element> {
        let attributes = Attributes::after(element, 0);
        Some(Element {
            key: attributes.nested(1).get(1)?.to_vec(),
            value: attributes.nested(2).get(1).unwrap_or_default().to_vec(),
            comment: attributes.get(6).and_then(read_comment).unwrap_or_default().to_owned(),
        })
    };
    let mut all = Vec::new();
    for payload in socket.ask(request)? {
        let list = Attributes::after(&payload, GENERIC_SIZE).nested(3);
        all.extend(list.filter_map(|(_, element)| read(element)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_read_as_it_was_written() {
        assert_eq!(read_comment(&comment("abc")), Some("abc"));
        for bad in [&[][..], &[0], &[0, 0], &[1, 2, 65, 0], &[0, 9, 65, 0]] {
            assert_eq!(read_comment(bad), None, "{bad:?}");
        }
    }
}
