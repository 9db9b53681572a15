//! What a rule is made of.

use crate::netlink::message::Message;

/// A register of the rules' machine: 32 bits each, numbered from 0. A value of 128 bits takes four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    /// NFT_REG32_00.
    const FIRST: u32 = 8;

    const fn number(self) -> u32 {
        Self::FIRST + self.0
    }
}

/// What can be loaded into a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// IPv4 or IPv6, one byte.
    Family,
    /// The transport protocol, one byte.
    Transport,
    /// The name of the link that the packet came in by, 16 bytes.
    InName,
    /// The name of the link that the packet goes out by, 16 bytes.
    OutName,
    /// The group of the link that the packet came in by.
    InGroup,
    /// Bits that say what connection tracking did to the connection.
    ConnectionStatus,
    /// What kind of address the destination is for this machine.
    DestinationKind,
    /// The source address of IPv4.
    SourceV4,
    /// The destination address of IPv4.
    DestinationV4,
    /// The source address of IPv6.
    SourceV6,
    /// The destination address of IPv6.
    DestinationV6,
    /// The destination port, two bytes; the same place in TCP, UDP and SCTP.
    DestinationPort,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    /// It goes no further.
    Drop,
    /// The chain ends for it.
    Return,
    /// Another chain decides, then this one goes on.
    Jump(&'a str),
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression<'a> {
    /// Loads something.
    Load(Key, Register),
    /// Goes on only if the register holds this value.
    Is(Register, Vec<u8>),
    /// Goes on only if the register does not hold this value.
    IsNot(Register, Vec<u8>),
    /// Keeps only these bits of the register.
    Mask(Register, Vec<u8>),
    /// Goes on only if what begins at `key` is in the map or set; a map's value goes to `to`.
    Lookup {
        /// The map's name.
        map: &'a str,
        /// Where the key begins.
        key: Register,
        /// Where the value goes; `None` for a set.
        to: Option<Register>,
    },
    /// Changes the destination to the address and the port in the registers.
    Redirect {
        /// Of the address.
        family: u8,
        /// Where the address begins.
        address: Register,
        /// Where the port is.
        port: Register,
    },
    /// Changes the source to the address of the link that the packet goes out by.
    Masquerade,
    /// Ends the rule.
    Then(Verdict<'a>),
}

const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

fn expression(message: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    message.nest(LIST_ELEMENT, |m| {
        m.text(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, fill);
    });
}

pub(super) fn value(message: &mut Message, kind: u16, bytes: &[u8]) {
    message.nest(kind, |m| {
        m.bytes(DATA_VALUE, bytes);
    });
}

fn compare(message: &mut Message, register: Register, operation: u32, bytes: &[u8]) {
    expression(message, "cmp", |m| {
        m.be32(1, register.number()).be32(2, operation);
        value(m, 3, bytes);
    });
}

fn load(message: &mut Message, key: Key, register: Register) {
    let to = register.number();
    let meta = |m: &mut Message, key: u32| {
        expression(m, "meta", |m| {
            m.be32(1, to).be32(2, key);
        });
    };
    // The base is 1 for the network header, 2 for the transport header.
    let payload = |m: &mut Message, base: u32, offset: u32, length: u32| {
        expression(m, "payload", |m| {
            m.be32(1, to).be32(2, base).be32(3, offset).be32(4, length);
        });
    };
    match key {
        Key::Family => meta(message, 15),
        Key::Transport => meta(message, 16),
        Key::InName => meta(message, 6),
        Key::OutName => meta(message, 7),
        Key::InGroup => meta(message, 21),
        Key::ConnectionStatus => expression(message, "ct", |m| {
            m.be32(1, to).be32(2, 2);
        }),
        // The type of the destination address, by its route.
        Key::DestinationKind => expression(message, "fib", |m| {
            m.be32(1, to).be32(2, 3).be32(3, 2);
        }),
        Key::SourceV4 => payload(message, 1, 12, 4),
        Key::DestinationV4 => payload(message, 1, 16, 4),
        Key::SourceV6 => payload(message, 1, 8, 16),
        Key::DestinationV6 => payload(message, 1, 24, 16),
        Key::DestinationPort => payload(message, 2, 2, 2),
    }
}

impl Expression<'_> {
    /// Writes the expression as an element of a rule's list.
    pub(super) fn write(&self, message: &mut Message) {
        match self {
            Self::Load(key, register) => load(message, *key, *register),
            Self::Is(register, bytes) => compare(message, *register, 0, bytes),
            Self::IsNot(register, bytes) => compare(message, *register, 1, bytes),
            Self::Mask(register, mask) => expression(message, "bitwise", |m| {
                let length = u32::try_from(mask.len()).unwrap_or(0);
                m.be32(1, register.number()).be32(2, register.number()).be32(3, length);
                value(m, 4, mask);
                value(m, 5, &vec![0; mask.len()]);
            }),
            Self::Lookup { map, key, to } => expression(message, "lookup", |m| {
                m.text(1, map).be32(2, key.number());
                if let Some(to) = to {
                    m.be32(3, to.number());
                }
            }),
            Self::Redirect { family, address, port } => expression(message, "nat", |m| {
                m.be32(1, 1).be32(2, u32::from(*family));
                m.be32(3, address.number()).be32(5, port.number());
            }),
            Self::Masquerade => expression(message, "masq", |_| ()),
            Self::Then(verdict) => expression(message, "immediate", |m| {
                // Register 0 holds the verdict.
                m.be32(1, 0).nest(2, |m| {
                    m.nest(DATA_VERDICT, |m| {
                        match verdict {
                            Verdict::Drop => m.be32(1, 0),
                            Verdict::Return => m.be32(1, 0xffff_fffb),
                            Verdict::Jump(chain) => m.be32(1, 0xffff_fffd).text(2, chain),
                        };
                    });
                });
            }),
        }
    }
}
