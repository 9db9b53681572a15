//! Texts and paths: what they may hold.

use std::path::{Component, Path, PathBuf};

use super::{At, BadField};

/// The longest name of a pod, namespace or container: a DNS subdomain's length.
const MAX_NAME: usize = 253;

/// A name that is also used in file names, CNI arguments and cgroup names.
pub(super) fn name(at: At<'_>, text: &str) -> Result<String, BadField> {
    if text.is_empty() {
        return Err(at.missing());
    }
    optional_name(at, text)
}

/// The same, or nothing.
pub(super) fn optional_name(at: At<'_>, text: &str) -> Result<String, BadField> {
    let ok = text.len() <= MAX_NAME
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:@+".contains(&b));
    if ok {
        Ok(text.to_owned())
    } else {
        Err(at.bad(text, "at most 253 letters, digits and -_.:@+ are allowed"))
    }
}

/// An absolute path without `..`.
pub(super) fn absolute(at: At<'_>, text: &str) -> Result<PathBuf, BadField> {
    let path = Path::new(text);
    let ok = path.is_absolute() && plain(path) && !text.contains('\0');
    if ok {
        Ok(path.to_owned())
    } else {
        Err(at.bad(text, "an absolute path without '..' is needed"))
    }
}

/// The same, or nothing where the text is empty.
pub(super) fn absolute_or_none(at: At<'_>, text: &str) -> Result<Option<PathBuf>, BadField> {
    if text.is_empty() { Ok(None) } else { absolute(at, text).map(Some) }
}

/// A path that stays below where it is resolved.
pub(super) fn relative(at: At<'_>, text: &str) -> Result<PathBuf, BadField> {
    let path = Path::new(text);
    let ok = path.is_relative() && plain(path) && !text.contains('\0');
    if ok {
        Ok(path.to_owned())
    } else {
        Err(at.bad(text, "a relative path without '..' is needed"))
    }
}

fn plain(path: &Path) -> bool {
    path.components().all(|part| match part {
        Component::RootDir | Component::CurDir | Component::Normal(_) => true,
        Component::ParentDir | Component::Prefix(_) => false,
    })
}

/// A program and its arguments for an exec: never empty.
pub(crate) fn command(at: At<'_>, words: Vec<String>) -> Result<Vec<String>, BadField> {
    if words.first().is_none_or(String::is_empty) {
        return Err(at.missing());
    }
    arguments(at, words)
}

/// Words for execve(2); none of them can hold a NUL.
pub(super) fn arguments(at: At<'_>, words: Vec<String>) -> Result<Vec<String>, BadField> {
    match words.iter().find(|word| word.contains('\0')) {
        Some(word) => Err(at.bad(word, "a NUL cannot be part of an argument")),
        None => Ok(words),
    }
}

/// A word for one line of a configuration file.
pub(super) fn word(at: At<'_>, text: &str) -> Result<String, BadField> {
    let ok = !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if ok {
        Ok(text.to_owned())
    } else {
        Err(at.bad(text, "one word is needed, without blanks and control characters"))
    }
}
