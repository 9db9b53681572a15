//! Signals by number and by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text or number that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is not a signal (a number from 1 to 64, or a name such as SIGTERM or SIGRTMIN+3)"
)]
pub struct BadSignal {
    /// The text as it was given.
    pub given: String,
}

/// A signal of Linux, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Signal(u8);

/// Names by number, as signal(7) has them on x86 and ARM; index 0 is unused.
const NAMES: [&str; 32] = [
    "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// Other names for the same numbers.
const ALIASES: [(&str, u8); 3] = [("CLD", 17), ("IOT", 6), ("POLL", 29)];
/// glibc keeps 32 and 33 for itself; programs see SIGRTMIN as 34.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

impl Signal {
    /// SIGTERM, what a container is stopped with when nobody says otherwise.
    pub const TERM: Self = Self(15);
    /// SIGKILL.
    pub const KILL: Self = Self(9);

    /// The signal of this number.
    ///
    /// # Errors
    /// [`BadSignal`] outside 1 to 64.
    pub fn from_number(number: i32) -> Result<Self, BadSignal> {
        match u8::try_from(number) {
            Ok(n) if (1..=RTMAX).contains(&n) => Ok(Self(n)),
            Ok(_) | Err(_) => Err(BadSignal { given: number.to_string() }),
        }
    }

    /// The signal that `text` names: `15`, `TERM`, `SIGTERM`, `SIGRTMIN+3`, `sigrtmax-1`.
    ///
    /// # Errors
    /// [`BadSignal`] for anything else.
    pub fn parse(text: &str) -> Result<Self, BadSignal> {
        let bad = || BadSignal { given: text.chars().take(40).collect() };
        if let Ok(number) = text.parse::<i32>() {
            return Self::from_number(number).map_err(|_| bad());
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(n) = NAMES.iter().position(|known| !known.is_empty() && *known == name) {
            return u8::try_from(n).map(Self).map_err(|_| bad());
        }
        if let Some((_, n)) = ALIASES.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*n));
        }
        let offset = |digits: &str, sign: char| -> Option<u8> {
            if digits.is_empty() { Some(0) } else { digits.strip_prefix(sign)?.parse().ok() }
        };
        let number = if let Some(rest) = name.strip_prefix("RTMIN") {
            offset(rest, '+').and_then(|o| RTMIN.checked_add(o))
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            offset(rest, '-').and_then(|o| RTMAX.checked_sub(o))
        } else {
            None
        };
        number.filter(|n| (RTMIN..=RTMAX).contains(n)).map(Self).ok_or_else(bad)
    }

    /// The number that the kernel knows it by.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0 as i32
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => write!(f, "SIG{name}"),
            None if self.0 >= RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "{}", self.0),
        }
    }
}

impl TryFrom<u8> for Signal {
    type Error = BadSignal;

    fn try_from(n: u8) -> Result<Self, BadSignal> {
        Self::from_number(i32::from(n))
    }
}

impl From<Signal> for u8 {
    fn from(s: Signal) -> Self {
        s.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals_parse() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("3", 3),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("SIGCLD", 17),
        ] {
            assert_eq!(Signal::parse(text).unwrap().number(), number, "{text}");
        }
        for bad in [
            "",
            "0",
            "65",
            "-1",
            "SIG",
            "NOPE",
            "RTMIN-1",
            "RTMIN+31",
            "RTMAX+1",
            "RTMIN+99999999999",
        ] {
            assert!(Signal::parse(bad).is_err(), "{bad:?} was taken for a signal");
        }
    }

    #[test]
    fn every_signal_is_printed_as_a_text_that_parses_back() {
        for n in 1..=64 {
            let s = Signal::from_number(n).unwrap();
            assert_eq!(Signal::parse(&s.to_string()), Ok(s));
        }
    }
}
