//! Networks on machines of their own: real links, real rules, real plugins.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod bridge;
mod cni;
mod common;
mod plugins;
mod spaces;
mod sudden;
