//! Beginnings of ids in the place of ids.
//!
//! Tools show people the beginning of an id and pass it on as it was typed. Owns: which texts are taken
//! as beginnings. Always: whole ids cost nothing here; a beginning that fits two objects names none of
//! them; one that fits nothing is left as it is, for the call to say so.

use std::borrow::Cow;

use pods::Pods;
use tonic::Status;

/// The least that names an object: a slip of the finger should not.
const SHORTEST: usize = 4;
/// The length of an id, in hexadecimal digits.
const WHOLE: usize = 64;

/// The id of the container that `text` begins, or `text`.
///
/// # Errors
/// InvalidArgument where several begin so.
pub(crate) fn container<'a>(pods: &Pods, text: &'a str) -> Result<Cow<'a, str>, Status> {
    whole("container", text, || pods.find_containers(text))
}

/// The same of sandboxes.
pub(crate) fn sandbox<'a>(pods: &Pods, text: &'a str) -> Result<Cow<'a, str>, Status> {
    whole("sandbox", text, || pods.find_sandboxes(text))
}

fn whole<'a, T: ToString>(
    what: &str,
    text: &'a str,
    find: impl FnOnce() -> Vec<T>,
) -> Result<Cow<'a, str>, Status> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if !(SHORTEST..WHOLE).contains(&text.len()) || !text.bytes().all(is_digit) {
        return Ok(text.into());
    }
    match find().as_slice() {
        [] => Ok(text.into()),
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
        assert_eq!(whole("x", "abcd", one).unwrap(), one()[0]);
        assert_eq!(whole("x", "abcd", Vec::<String>::new).unwrap(), "abcd");
        let two = whole("x", "abcd", || vec!["abcd1", "abcd2"]).unwrap_err();
        assert_eq!(two.code(), tonic::Code::InvalidArgument);
        assert!(two.message().contains("\"abcd\"") && two.message().contains('2'), "{two}");
        let never = || -> Vec<String> { panic!("nobody is to look") };
        for text in ["", "abc", "ABCD", "web-1", &"a".repeat(64), &"a".repeat(65)] {
            assert_eq!(whole("x", text, never).unwrap(), text);
        }
    }
}
