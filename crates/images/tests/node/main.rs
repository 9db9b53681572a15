//! A node's images, from a real registry and from archives.

mod archives;
mod pull;
mod support;
