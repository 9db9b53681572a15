//! The one map from errors to gRPC codes and messages.
//!
//! Owns: which code a class has on the wire, and how a chain of causes becomes one message.
//! Always: the whole chain is told, once, at most [`MAX_MESSAGE`] bytes of it; a reason word that the
//! kubelet looks for stands first.
//! Callers: every handler of this crate, and the daemon's own service.

use std::error::Error;

use model::{Class, Classified, with_causes};
use tonic::{Code, Status};

/// The longest message, in bytes. It travels in a header, of which some peers take no more than 8 KiB,
/// and bytes outside of ASCII take three there.
pub const MAX_MESSAGE: usize = 2048;

/// Words that the kubelet looks for at the beginning of a message.
const REASONS: [&str; 4] = [
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "RROUnsupported",
    "ImageVolumeMountFailed",
];

/// The gRPC code of a class.
#[must_use]
pub const fn code(class: Class) -> Code {
    match class {
        Class::InvalidArgument => Code::InvalidArgument,
        Class::NotFound => Code::NotFound,
        Class::FailedPrecondition => Code::FailedPrecondition,
        Class::DeadlineExceeded => Code::DeadlineExceeded,
        Class::ResourceExhausted => Code::ResourceExhausted,
        Class::Unavailable => Code::Unavailable,
        Class::Unauthenticated => Code::Unauthenticated,
        Class::PermissionDenied => Code::PermissionDenied,
        Class::Unimplemented => Code::Unimplemented,
        Class::DataLoss => Code::DataLoss,
        Class::Internal => Code::Internal,
    }
}

/// The answer that tells `error`.
pub fn status<E: Classified>(error: &E) -> Status {
    Status::new(code(error.class()), message(error))
}

/// What `error` and its causes say, outermost first.
#[must_use]
pub fn message(error: &dyn Error) -> String {
    cut(reason_first(with_causes(error)))
}

fn reason_first(text: String) -> String {
    let found = REASONS.iter().find(|reason| text.contains(**reason));
    match found {
        Some(reason) if !text.starts_with(reason) => {
            let rest = text.replacen(&format!("{reason}: "), "", 1);
            format!("{reason}: {rest}")
        }
        Some(_) | None => text,
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE - "…".len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Outer {
        said: String,
        source: Option<Box<Outer>>,
    }

    fn chain(words: &[&str]) -> Outer {
        let (first, rest) = words.split_first().unwrap();
        let source = (!rest.is_empty()).then(|| Box::new(chain(rest)));
        Outer { said: (*first).to_owned(), source }
    }

    #[test]
    fn a_message_tells_the_whole_chain_once() {
        for (given, want) in [
            (&["cannot start x", "no such file"][..], "cannot start x: no such file"),
            (&["a", "a", "b"], "a: b"),
            (&["a: b", "b"], "a: b"),
            (
                &["cannot pull x", "RegistryUnavailable: no route"],
                "RegistryUnavailable: cannot pull x: no route",
            ),
            (&["RROUnsupported: kernel"], "RROUnsupported: kernel"),
        ] {
            assert_eq!(message(&chain(given)), want);
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = message(&chain(&[&"ä".repeat(5000)]));
        assert!(long.len() <= MAX_MESSAGE && long.ends_with("ä…"));
    }
}
