//! The client against a server that does what the script of a test says, wrong things above all.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod auth;
mod faults;
mod hosts;
mod parts;
mod pull;
mod redirects;
mod referrers;
mod server;
mod tls;
