//! Exec, attach and port-forward as kubectl's users know them, for any container runtime.
//!
//! Owns: the protocols (SPDY/3.1 and WebSocket), the server that a kubelet sends its clients to, and a
//! client. Always: memory is bounded whatever a peer does (each queue says its bound), a slow reader
//! stops the writer, a token serves once. Callers: a runtime that has a way to run a process and to
//! reach a port; it implements [`Runtime`].
//!
//! What comes out of a pipe or of a TCP connection is carried to a client of plain TCP without being copied: see
//! [`Source`] and [`server::Output::carry`].
//!
//! # A whole runtime
//!
//! ```no_run
#![doc = include_str!("../examples/shell.rs")]
//! ```

pub mod client;
pub mod protocol;
pub mod server;
pub mod spdy;
mod status;
mod token;
pub mod websocket;
mod wire;

pub use server::{Runtime, Server};
pub use status::Outcome;
pub use token::{LIFETIME, MOST_WAITING, NoToken, Tokens};
pub use wire::{Source, Wire};
