//! What the value of a key may be.
//!
//! Owns: how texts of the configuration are read as sizes, times, modes and so on. Always: pure.
//! Callers: `entries`, for every value of every file.

use std::path::{Component, Path};
use std::time::Duration;

use model::Secret;

/// What a key's value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// An absolute path.
    Path,
    /// An absolute path, or nothing.
    MaybePath,
    /// A whole number within these bounds.
    Whole(u64, u64),
    /// Bytes: a number, or a text such as `64MiB`. 0 is no limit where the key says so.
    Size,
    /// A time: a text such as `500ms`, `90s`, `5m`, `1h`.
    Time,
    /// A file mode in octal, such as `0660`.
    Mode,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of absolute paths.
    Paths,
    /// An address with a port.
    Address,
    /// A text that is never printed.
    Secret,
}

/// A value as a file or a flag gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// A text.
    Text(String),
    /// A number.
    Whole(i64),
    /// A list of texts.
    Texts(Vec<String>),
    /// Anything else, by the name of its type.
    Other(&'static str),
}

/// A value that its kind allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text, path, choice or address.
    Text(String),
    /// Number, bytes or mode.
    Whole(u64),
    /// Time.
    Time(Duration),
    /// List.
    Texts(Vec<String>),
    /// Secret.
    Secret(Secret<String>),
}

impl Kind {
    /// The value, or what would be right.
    pub fn read(self, given: &Given) -> Result<Value, String> {
        let value = match (self, given) {
            (Self::Text, Given::Text(text)) => Some(Value::Text(text.clone())),
            (Self::Secret, Given::Text(text)) => Some(Value::Secret(Secret::new(text.clone()))),
            (Self::Path, Given::Text(text)) if is_path(text) => Some(Value::Text(text.clone())),
            (Self::MaybePath, Given::Text(text)) if text.is_empty() || is_path(text) => {
                Some(Value::Text(text.clone()))
            }
            (Self::Whole(least, most), Given::Whole(number)) => u64::try_from(*number)
                .ok()
                .filter(|number| (least..=most).contains(number))
                .map(Value::Whole),
            (Self::Size, Given::Whole(number)) => u64::try_from(*number).ok().map(Value::Whole),
            (Self::Size, Given::Text(text)) => size(text).map(Value::Whole),
            (Self::Time, Given::Text(text)) => time(text).map(Value::Time),
            (Self::Mode, Given::Text(text)) => mode(text).map(Value::Whole),
            (Self::Choice(words), Given::Text(text)) => {
                words.contains(&text.as_str()).then(|| Value::Text(text.clone()))
            }
            (Self::Texts, Given::Texts(texts)) => Some(Value::Texts(texts.clone())),
            (Self::Paths, Given::Texts(texts)) => {
                texts.iter().all(|text| is_path(text)).then(|| Value::Texts(texts.clone()))
            }
            (Self::Address, Given::Text(text)) => {
                text.parse::<std::net::SocketAddr>().is_ok().then(|| Value::Text(text.clone()))
            }
            (
                Self::Text
                | Self::Path
                | Self::MaybePath
                | Self::Whole(..)
                | Self::Size
                | Self::Time
                | Self::Mode
                | Self::Choice(_)
                | Self::Texts
                | Self::Paths
                | Self::Address
                | Self::Secret,
                Given::Text(_) | Given::Whole(_) | Given::Texts(_) | Given::Other(_),
            ) => None,
        };
        value.ok_or_else(|| self.expected())
    }

    /// What is allowed, for people.
    pub fn expected(self) -> String {
        match self {
            Self::Text | Self::Secret => "a text".to_owned(),
            Self::Path => "an absolute path".to_owned(),
            Self::MaybePath => "an absolute path or \"\"".to_owned(),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::Size => "bytes: a number, or a text such as \"64MiB\"".to_owned(),
            Self::Time => "a time such as \"500ms\", \"90s\", \"5m\" or \"1h\"".to_owned(),
            Self::Mode => "a file mode in octal, such as \"0660\"".to_owned(),
            Self::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                quoted.join(", ")
            }
            Self::Texts => "a list of texts".to_owned(),
            Self::Paths => "a list of absolute paths".to_owned(),
            Self::Address => "an address such as \"127.0.0.1:0\"".to_owned(),
        }
    }
}

fn is_path(text: &str) -> bool {
    let path = Path::new(text);
    path.is_absolute()
        && !text.contains('\0')
        && path.components().all(|part| !matches!(part, Component::ParentDir))
}

/// The number and the unit behind it.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

/// Bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn time(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        _ => None,
    }
}

fn mode(text: &str) -> Option<u64> {
    let ok = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    u64::from_str_radix(text, 8).ok().filter(|mode| ok && *mode <= 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Given {
        Given::Text(text.to_owned())
    }

    #[test]
    fn each_kind_reads_its_own_texts() {
        let second = Duration::from_secs(1);
        for (kind, given, want) in [
            (Kind::Size, text("64MiB"), Value::Whole(64 << 20)),
            (Kind::Size, text("1 G"), Value::Whole(1 << 30)),
            (Kind::Size, Given::Whole(7), Value::Whole(7)),
            (Kind::Time, text("90s"), Value::Time(90 * second)),
            (Kind::Time, text("2m"), Value::Time(120 * second)),
            (Kind::Time, text("500ms"), Value::Time(second / 2)),
            (Kind::Mode, text("0660"), Value::Whole(0o660)),
            (Kind::Whole(1, 9), Given::Whole(9), Value::Whole(9)),
            (Kind::Choice(&["a", "b"]), text("b"), Value::Text("b".into())),
            (Kind::MaybePath, text(""), Value::Text(String::new())),
            (Kind::Address, text("[::1]:80"), Value::Text("[::1]:80".into())),
        ] {
            assert_eq!(kind.read(&given), Ok(want), "{kind:?} {given:?}");
        }
    }

    #[test]
    fn each_kind_refuses_what_is_none_of_its_own() {
        for (kind, given) in [
            (Kind::Text, Given::Whole(1)),
            (Kind::Path, text("")),
            (Kind::Path, text("run")),
            (Kind::Path, text("/run/../etc")),
            (Kind::Size, text("64MX")),
            (Kind::Size, text("99999999999TiB")),
            (Kind::Size, Given::Whole(-1)),
            (Kind::Time, text("90")),
            (Kind::Time, text("s")),
            (Kind::Mode, text("888")),
            (Kind::Mode, text("07777")),
            (Kind::Whole(1, 9), Given::Whole(10)),
            (Kind::Choice(&["a"]), text("A")),
            (Kind::Paths, Given::Texts(vec!["/a".into(), "b".into()])),
            (Kind::Texts, text("a")),
            (Kind::Address, text("localhost:80")),
            (Kind::Text, Given::Other("table")),
        ] {
            assert!(kind.read(&given).is_err(), "{kind:?} took {given:?}");
        }
    }
}
