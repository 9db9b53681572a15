//! Names of the protocols, and which one is spoken when both sides have said what they know.
//!
//! The names are those of Kubernetes' remote command and port-forward protocols.

/// A version of the remote command protocol (exec and attach), newest first in [`RemoteCommand::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemoteCommand {
    /// `channel.k8s.io`, or no name at all: errors are plain text.
    V1,
    /// `v2.channel.k8s.io`: standard input can be closed by itself.
    V2,
    /// `v3.channel.k8s.io`: the terminal can be resized.
    V3,
    /// `v4.channel.k8s.io`: the error stream carries a status with the exit code.
    V4,
    /// `v5.channel.k8s.io`: WebSocket has a message that closes a channel.
    V5,
}

impl RemoteCommand {
    /// All versions, the newest first.
    pub const ALL: [Self; 5] = [Self::V5, Self::V4, Self::V3, Self::V2, Self::V1];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "channel.k8s.io",
            Self::V2 => "v2.channel.k8s.io",
            Self::V3 => "v3.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
        }
    }

    /// Whether the error stream carries a JSON status; plain text otherwise.
    #[must_use]
    pub fn has_status(self) -> bool {
        self >= Self::V4
    }

    /// Whether a terminal's size can change.
    #[must_use]
    pub fn has_resize(self) -> bool {
        self >= Self::V3
    }
}

/// How bytes are written into WebSocket messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Binary messages: a byte with the channel's number, then the bytes.
    Binary,
    /// Text messages: a digit with the channel's number, then the bytes in Base64.
    Base64,
}

/// The name of port-forwarding over SPDY.
pub const PORT_FORWARD: &str = "portforward.k8s.io";
/// The WebSocket subprotocol that carries SPDY/3.1 with [`PORT_FORWARD`] in it.
pub const TUNNELLED_PORT_FORWARD: &str = "SPDY/3.1+portforward.k8s.io";

/// The WebSocket subprotocols of remote commands. The empty name is that of a client that names none.
pub const WEBSOCKET_REMOTE_COMMAND: [(&str, RemoteCommand, Encoding); 5] = [
    ("v5.channel.k8s.io", RemoteCommand::V5, Encoding::Binary),
    ("v4.channel.k8s.io", RemoteCommand::V4, Encoding::Binary),
    ("v4.base64.channel.k8s.io", RemoteCommand::V4, Encoding::Base64),
    ("channel.k8s.io", RemoteCommand::V1, Encoding::Binary),
    ("base64.channel.k8s.io", RemoteCommand::V1, Encoding::Base64),
];

/// The WebSocket subprotocols of port-forwarding by a list of ports.
pub const WEBSOCKET_PORT_LIST: [(&str, Encoding); 2] =
    [("v4.channel.k8s.io", Encoding::Binary), ("v4.base64.channel.k8s.io", Encoding::Base64)];

/// The first of the client's names that the server knows too. The client's order is its preference.
#[must_use]
pub fn choose<'c>(client: &'c [String], server: &[&str]) -> Option<&'c str> {
    client.iter().map(String::as_str).find(|name| server.contains(name))
}

/// The names in the values of a header that may be repeated and may hold a comma-separated list.
#[must_use]
pub fn names_in<'v>(values: impl IntoIterator<Item = &'v str>) -> Vec<String> {
    let names = values.into_iter().flat_map(|value| value.split(','));
    names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_prefers_and_the_server_decides_what_there_is() {
        let client = names_in(["v9.channel.k8s.io, v4.channel.k8s.io", "v5.channel.k8s.io"]);
        let known: Vec<&str> = RemoteCommand::ALL.iter().map(|v| v.name()).collect();
        assert_eq!(choose(&client, &known), Some("v4.channel.k8s.io"));
        assert_eq!(choose(&[], &known), None);
        assert_eq!(choose(&names_in(["other"]), &known), None);
    }

    #[test]
    fn versions_are_ordered_by_what_they_can() {
        assert!(RemoteCommand::V5.has_status() && RemoteCommand::V4.has_status());
        assert!(!RemoteCommand::V3.has_status() && RemoteCommand::V3.has_resize());
        assert!(!RemoteCommand::V2.has_resize());
    }
}
