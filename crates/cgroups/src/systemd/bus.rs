//! A conversation with systemd: its own socket, or the system bus where that is not there.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::wire::{Callee, FIXED, Kind, Message, Writer, call, rest_of};

/// systemd's own socket, for root alone: it answers while the bus is not up, and costs one hop less.
const PRIVATE: &str = "/run/systemd/private";
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages that are passed over while waiting for one: signals about other units.
const MAX_PASSED_OVER: usize = 10_000;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: Callee<'static> = Callee {
    destination: SYSTEMD,
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
};
const BUS: Callee<'static> = Callee {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
};

/// Why a call did not do what it should.
#[derive(Debug)]
pub(super) enum CallError {
    /// The conversation broke.
    Io(io::Error),
    /// systemd said no.
    Refused { name: String, message: String },
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl CallError {
    /// Whether there is no unit of that name.
    pub(super) fn is_no_such_unit(&self) -> bool {
        match self {
            Self::Refused { name, .. } => name == "org.freedesktop.systemd1.NoSuchUnit",
            Self::Io(_) => false,
        }
    }

    /// For people, and for `source`.
    pub(super) fn into_io(self) -> io::Error {
        match self {
            Self::Io(error) => error,
            Self::Refused { name, message } => {
                let kind = if name.ends_with(".AccessDenied") {
                    io::ErrorKind::PermissionDenied
                } else {
                    io::ErrorKind::Other
                };
                io::Error::new(kind, format!("{message} ({name})"))
            }
        }
    }
}

/// An open conversation.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    /// Begins one.
    pub(super) fn open() -> Result<Self, CallError> {
        match UnixStream::connect(PRIVATE) {
            Ok(stream) => Self::begin(stream),
            Err(_) => {
                let mut bus = Self::begin(UnixStream::connect(SYSTEM_BUS)?)?;
                bus.call(Callee { member: "Hello", ..BUS }, "", Writer::default())?;
                let mut rule = Writer::default();
                rule.text("type='signal',interface='org.freedesktop.systemd1.Manager'");
                bus.call(Callee { member: "AddMatch", ..BUS }, "s", rule)?;
                Ok(bus)
            }
        }
    }

    /// Whether systemd is there to talk to.
    pub(super) fn is_there() -> bool {
        Path::new("/run/systemd/system").is_dir()
            && (Path::new(PRIVATE).exists() || Path::new(SYSTEM_BUS).exists())
    }

    /// Says who is calling ("Authentication Protocol", EXTERNAL): the kernel has told already.
    pub(super) fn begin(mut stream: UnixStream) -> Result<Self, CallError> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|b| format!("{b:02x}")).collect();
        // All at once, as systemd's own library does: a first call that arrives together with BEGIN would lie
        // with systemd until something else arrives.
        stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let answer = line(&mut stream)?;
        if !answer.starts_with("OK ") {
            let message = format!("systemd's bus does not let us in: {answer:?}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message).into());
        }
        Ok(Self { stream, serial: 0 })
    }

    /// Calls a method of systemd's manager.
    pub(super) fn manager(
        &mut self,
        member: &str,
        signature: &str,
        body: Writer,
    ) -> Result<Message, CallError> {
        self.call(Callee { member, ..MANAGER }, signature, body)
    }

    fn call(
        &mut self,
        callee: Callee<'_>,
        signature: &str,
        body: Writer,
    ) -> Result<Message, CallError> {
        self.serial += 1;
        let serial = self.serial;
        self.stream.write_all(&call(serial, callee, signature, body))?;
        let answer = self.wait_for(|message| message.reply_to == Some(serial))?;
        match answer.kind {
            Kind::Error => Err(CallError::Refused {
                message: answer.body().text().unwrap_or_default(),
                name: answer.error,
            }),
            Kind::Return | Kind::Signal | Kind::Other => Ok(answer),
        }
    }

    /// The next message that is `wanted`.
    pub(super) fn wait_for(
        &mut self,
        wanted: impl Fn(&Message) -> bool,
    ) -> Result<Message, CallError> {
        let until = Instant::now() + PATIENCE;
        for _ in 0..MAX_PASSED_OVER {
            let message = self.next()?;
            if wanted(&message) {
                return Ok(message);
            }
            if Instant::now() > until {
                break;
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "systemd does not answer").into())
    }

    fn next(&mut self) -> Result<Message, CallError> {
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "this is not D-Bus");
        let mut fixed = [0; FIXED];
        self.stream.read_exact(&mut fixed)?;
        let rest = rest_of(&fixed).ok_or_else(broken)?;
        let mut bytes = fixed.to_vec();
        bytes.resize(FIXED + rest, 0);
        self.stream.read_exact(&mut bytes[FIXED..])?;
        Ok(Message::read(&bytes).ok_or_else(broken)?)
    }
}

/// A line of the greeting, byte by byte: what follows it belongs to somebody else.
fn line(stream: &mut UnixStream) -> io::Result<String> {
    const LONGEST: usize = 1024;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
        if line.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a greeting without end"));
        }
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8_lossy(&line).into_owned())
}
