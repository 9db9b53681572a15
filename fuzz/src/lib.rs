//! What strangers' bytes are fed to. Run with `cargo +nightly fuzz run TARGET` in the directory above; the
//! workspace's own tests run the corpus, and a bounded number of changes of it, through the same
//! functions (`crates/images/tests/mutations.rs`).

mod entry;

pub use entry::{archive, config, document, hosts, policy, reference};
