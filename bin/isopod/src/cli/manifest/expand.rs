//! `$(NAME)` in commands, arguments and values, as Kubernetes expands it.

use std::collections::BTreeMap;

/// `text` with each `$(NAME)` replaced by its value. `$$` is a dollar sign; a name without a value
/// stays as it is written.
pub fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = from.strip_prefix("$$") {
            out.push('$');
            rest = after;
            continue;
        }
        let named = from.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        match named.and_then(|(name, after)| Some((values.get(name)?, after))) {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('$');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_values_are_replaced_and_nothing_else() {
        let values = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let table = [
            ("$(A)/$(A)", "1/1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A $ $(", "$A $ $("),
            ("$$$(A)", "$1"),
            ("é$(A)é", "é1é"),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text, &values), expected, "{text}");
        }
    }
}
