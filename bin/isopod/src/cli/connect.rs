//! Which socket is meant.

use std::path::{Path, PathBuf};

use crate::config::{self, Flags};

/// Where the daemon listens when nothing else is said.
const DEFAULT: &str = "/run/isopod/isopod.sock";

/// A socket as it is given: a path, or a URL with the scheme `unix`.
pub fn parse_endpoint(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
    if path.contains("://") {
        return Err("only unix sockets can be reached: give a path, or unix://PATH".to_owned());
    }
    if path.is_empty() {
        return Err("the path is empty".to_owned());
    }
    Ok(PathBuf::from(path))
}

/// The socket that was given, else the one of the daemon's configuration on this machine. What is
/// wrong with that is for the daemon and `isopod config check` to tell.
pub fn socket(given: Option<&Path>) -> PathBuf {
    if let Some(given) = given {
        return given.to_owned();
    }
    let configured = config::load(None, &Flags::default());
    configured.map_or_else(|_| PathBuf::from(DEFAULT), |(config, _)| config.socket.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_paths_or_unix_urls() {
        for text in ["/run/x.sock", "unix:///run/x.sock", "unix:/run/x.sock"] {
            assert_eq!(parse_endpoint(text), Ok(PathBuf::from("/run/x.sock")), "{text}");
        }
        assert!(parse_endpoint("tcp://127.0.0.1:80").is_err());
        assert!(parse_endpoint("unix://").is_err());
    }
}
