//! A node's images, from a real registry and from archives.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod archives;
mod artifacts;
mod bundles;
mod partial;
mod places;
mod policy;
mod pull;
mod push;
mod support;
mod upkeep;
