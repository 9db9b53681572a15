//! Beginnings of ids in the place of ids.
//!
//! Tools show people the beginning of an id and pass it on as it was typed. Owns: which texts are taken
//! as beginnings. Always: whole ids cost nothing here; a beginning that fits two objects names none of
//! them; one that fits nothing is left as it is, for the call to say so. A call that does something takes
//! no beginning that could come to fit another object once the one that was meant is gone: a call that is
//! repeated would hit that one.

use std::borrow::Cow;

use pods::Pods;
use tonic::Status;

/// The least that names an object that is only looked at: a slip of the finger should not.
const SHORTEST: usize = 4;
/// The least for calls that do something: as much as lists and logs show.
const SHORTEST_TO_DO: usize = 12;
/// The length of an id, in hexadecimal digits.
const WHOLE: usize = 64;

/// What becomes of the object that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// It is told of.
    Look,
    /// It is changed, or something is done in it.
    Do,
}

/// The id of the container that `text` begins, or `text`.
///
/// # Errors
/// InvalidArgument where several begin so, or one does and `text` is too short for `to`.
pub(crate) fn container<'a>(pods: &Pods, text: &'a str, to: To) -> Result<Cow<'a, str>, Status> {
    whole("container", text, to, || pods.find_containers(text))
}

/// The same of sandboxes.
pub(crate) fn sandbox<'a>(pods: &Pods, text: &'a str, to: To) -> Result<Cow<'a, str>, Status> {
    whole("sandbox", text, to, || pods.find_sandboxes(text))
}

fn whole<'a, T: ToString>(
    what: &str,
    text: &'a str,
    to: To,
    find: impl FnOnce() -> Vec<T>,
) -> Result<Cow<'a, str>, Status> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if !(SHORTEST..WHOLE).contains(&text.len()) || !text.bytes().all(is_digit) {
        return Ok(text.into());
    }
    match find().as_slice() {
        [] => Ok(text.into()),
        [_, ..] if to == To::Do && text.len() < SHORTEST_TO_DO => {
            let message = format!(
                "{what} id {text:?} is only the beginning of one: this call needs {SHORTEST_TO_DO} \
                 digits of it or more"
            );
            Err(Status::invalid_argument(message))
        }
        [one] => Ok(one.to_string().into()),
        several => {
            let number = several.len();
            let message = format!("{what} id {text:?} is the beginning of {number} ids");
            Err(Status::invalid_argument(message))
        }
    }
}

/// Makes a filter's id whole where it is the beginning of one; one that is ambiguous stays, and fits nothing.
pub(crate) fn make_whole(
    text: &mut String,
    find: impl FnOnce(&str) -> Result<Cow<'_, str>, Status>,
) {
    if let Ok(Cow::Owned(id)) = find(text) {
        *text = id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_names_one_object_or_none() {
        let one = || vec!["abcdef".repeat(10) + "0123"];
        assert_eq!(whole("x", "abcd", To::Look, one).unwrap(), one()[0]);
        assert_eq!(whole("x", "abcd", To::Look, Vec::<String>::new).unwrap(), "abcd");
        let two = whole("x", "abcd", To::Look, || vec!["abcd1", "abcd2"]).unwrap_err();
        assert_eq!(two.code(), tonic::Code::InvalidArgument);
        assert!(two.message().contains("\"abcd\"") && two.message().contains('2'), "{two}");
        let never = || -> Vec<String> { panic!("nobody is to look") };
        for text in ["", "abc", "ABCD", "web-1", &"a".repeat(64), &"a".repeat(65)] {
            for to in [To::Look, To::Do] {
                assert_eq!(whole("x", text, to, never).unwrap(), text);
            }
        }
    }

    #[test]
    fn what_is_done_needs_more_of_an_id_than_what_is_looked_at() {
        let one = || vec!["abcdef".repeat(10) + "0123"];
        for text in ["abcd", "abcdefabcde"] {
            let short = whole("x", text, To::Do, one).unwrap_err();
            assert_eq!(short.code(), tonic::Code::InvalidArgument);
            assert!(short.message().contains("12 digits"), "{short}");
            // Nothing of that beginning: what was to be removed is removed already.
            assert_eq!(whole("x", text, To::Do, Vec::<String>::new).unwrap(), text);
        }
        // As crictl shows them, and as logs do.
        for text in ["abcdefabcdefa", "abcdefabcdef"] {
            assert_eq!(whole("x", text, To::Do, one).unwrap(), one()[0]);
        }
    }
}
