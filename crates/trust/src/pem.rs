//! RFC 7468 texts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The contents of all blocks called `label`, in order; `None` if one of them is no base64.
pub(crate) fn blocks(text: &[u8], label: &str) -> Option<Vec<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok()?;
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&begin) {
        let (body, after) = after.split_once(&end)?;
        let joined: String = body.split_ascii_whitespace().collect();
        found.push(STANDARD.decode(joined).ok()?);
        rest = after;
    }
    Some(found)
}

/// The content of the only block called `label`; `None` where there is none, or more than one: two readers
/// could take different ones.
pub(crate) fn only(text: &[u8], label: &str) -> Option<Vec<u8>> {
    let mut all = blocks(text, label)?;
    if all.len() == 1 { all.pop() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_by_their_label() {
        let text = b"x\n-----BEGIN A-----\nYWI=\n-----END A-----\n-----BEGIN B-----\nYw\n==\n-----END B-----\n-----BEGIN A-----\nZA==\n-----END A-----";
        assert_eq!(blocks(text, "A"), Some(vec![b"ab".to_vec(), b"d".to_vec()]));
        assert_eq!(blocks(text, "B"), Some(vec![b"c".to_vec()]));
        assert_eq!(
            [only(text, "A"), only(text, "B"), only(text, "C")],
            [None, Some(b"c".to_vec()), None]
        );
        assert_eq!(blocks(text, "C"), Some(vec![]));
        assert_eq!(blocks(b"-----BEGIN A-----\n!\n-----END A-----", "A"), None);
        assert_eq!(blocks(b"-----BEGIN A-----\nYWI=", "A"), None);
    }
}
