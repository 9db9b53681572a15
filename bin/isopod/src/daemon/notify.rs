//! Words for systemd (sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where words go; nowhere when nobody asked for them.
#[derive(Debug, Clone, Default)]
pub struct Notify {
    address: Option<SocketAddr>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says (NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID).
    pub fn from_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok();
        let for_us = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = text("WATCHDOG_USEC").filter(|_| for_us).and_then(|text| text.parse().ok());
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(|path| address(&path).ok());
        Self { address, watchdog: watchdog.map(Duration::from_micros) }
    }

    /// How often the watchdog wants to hear of us: twice in its time.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2).filter(|time| !time.is_zero())
    }

    /// Says `word`, for example `READY=1`. That nobody listens is no failure of ours.
    pub fn say(&self, word: &str) {
        let Some(address) = &self.address else { return };
        let said = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to_addr(word.as_bytes(), address));
        if let Err(error) = said {
            tracing::debug!(%error, word, "systemd does not listen");
        }
    }
}

/// A path, or with a leading `@` an abstract name.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        Some(_) | None => SocketAddr::from_pathname(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_at_a_path_and_at_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("isopod-notify-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let listeners = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}").into(), UnixDatagram::bind_addr(&abstract_address).unwrap()),
        ];
        for (given, listener) in listeners {
            let notify = Notify { address: Some(address(&given).unwrap()), watchdog: None };
            notify.say("READY=1");
            let mut buffer = [0; 32];
            let length = listener.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
    }

    #[test]
    fn the_watchdog_hears_twice_in_its_time() {
        let watchdog = Some(Duration::from_secs(30));
        let notify = Notify { address: None, watchdog };
        assert_eq!(notify.watchdog_interval(), Some(Duration::from_secs(15)));
        assert_eq!(Notify::default().watchdog_interval(), None);
    }
}
