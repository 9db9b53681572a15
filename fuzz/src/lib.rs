//! What strangers' bytes are fed to.
//!
//! Owns: the targets, and in `corpus/` what each is tried with. Always: a target takes any bytes and may refuse
//! them; it does not panic, it takes no more memory than its limits say, and what it accepts holds together: it is
//! the same when it is written and read again, and however the bytes are cut. Callers: `tests/corpus.rs`, which
//! feeds the corpus and a bounded number of changes of it, each time the same; and libFuzzer without end
//! (`cargo xtask fuzz`).

mod devices;
mod frames;
mod images;
mod logs;
mod networks;
mod pieces;
mod profiles;
mod records;
#[cfg(feature = "daemon")]
mod requests;
mod spdy;
mod websocket;

/// Something that reads what others write.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its directory in `corpus/`.
    pub name: &'static str,
    /// Feeds it.
    pub feed: fn(&[u8]),
}

const fn target(name: &'static str, feed: fn(&[u8])) -> Target {
    Target { name, feed }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("archive", images::archive),
    target("config", images::config),
    target("document", images::document),
    #[cfg(feature = "daemon")]
    target("hosts", images::hosts),
    target("policy", images::policy),
    target("reference", images::reference),
    target("spdy-frames", spdy::frames),
    target("spdy-headers", spdy::headers),
    target("spdy-connection", spdy::connection),
    target("websocket-frames", websocket::frames),
    target("websocket-channels", websocket::channels),
    target("status", websocket::status),
    target("cni-conf", networks::configuration),
    target("cni-result", networks::answer),
    #[cfg(feature = "daemon")]
    target("request", requests::request),
    target("seccomp", profiles::seccomp),
    target("monitor", frames::monitor),
    target("record", records::record),
    target("cdi", devices::cdi),
    target("log", logs::log),
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
