//! How deep values of others may be nested.

use serde_json::Value;

/// The deepest nesting that is taken, of configurations and of results. Records keep both some levels further
/// down, and no JSON is read again that is nested more than 128 levels deep: a record with a deeper value would be
/// one that cannot be read, and what it tells of would be forgotten.
pub(crate) const DEEPEST: usize = 64;

/// Whether `value` is nested deeper than [`DEEPEST`].
pub(crate) fn is_too_deep(value: &Value) -> bool {
    goes_beyond(value, DEEPEST)
}

fn goes_beyond(value: &Value, levels: usize) -> bool {
    let below = |value: &Value| levels == 0 || goes_beyond(value, levels - 1);
    match value {
        Value::Array(all) => all.iter().any(below),
        Value::Object(all) => all.values().any(below),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_in_lists_and_objects() {
        let nested = |levels: usize| {
            let text = format!("{}1{}", r#"[{"a":"#.repeat(levels / 2), "}]".repeat(levels / 2));
            serde_json::from_str::<Value>(&text).unwrap()
        };
        assert!(!is_too_deep(&nested(DEEPEST)));
        assert!(is_too_deep(&nested(DEEPEST + 2)));
        assert!(!is_too_deep(&Value::Null));
    }
}
