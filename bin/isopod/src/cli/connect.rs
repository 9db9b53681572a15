//! Which socket is meant.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::config::{self, Flags};

/// The client's variable for the socket. The daemon does not look at it.
const VARIABLE: &str = "ISOPOD_ENDPOINT";

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

/// The socket that the flag names, else the environment. A variable that is empty is none.
pub fn given(flag: Option<&Path>) -> Result<Option<PathBuf>, String> {
    chosen(flag, std::env::var_os(VARIABLE))
}

fn chosen(flag: Option<&Path>, variable: Option<OsString>) -> Result<Option<PathBuf>, String> {
    if let Some(flag) = flag {
        return Ok(Some(flag.to_owned()));
    }
    let Some(variable) = variable.filter(|text| !text.is_empty()) else { return Ok(None) };
    match variable.to_str() {
        Some(text) => parse_endpoint(text).map(Some).map_err(|why| format!("{VARIABLE}: {why}")),
        None => Ok(Some(PathBuf::from(variable))),
    }
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

    #[test]
    fn the_flag_wins_over_the_variable_and_an_empty_variable_is_none() {
        let path = |text: &str| Ok(Some(PathBuf::from(text)));
        assert_eq!(chosen(Some(Path::new("/f")), Some("/v".into())), path("/f"));
        assert_eq!(chosen(None, Some("unix:///v".into())), path("/v"));
        assert_eq!(chosen(None, Some("".into())), Ok(None));
        assert_eq!(chosen(None, None), Ok(None));
        assert!(chosen(None, Some("tcp://x".into())).unwrap_err().contains("ISOPOD_ENDPOINT"));
    }
}
