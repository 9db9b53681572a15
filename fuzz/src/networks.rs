//! What operators and plugins of CNI write.

use network::probe::{self, Recorded};
use serde_json::Value;

/// Configurations and their templates.
pub fn configuration(data: &[u8]) {
    if let Ok(recorded) = probe::configuration(data) {
        holds(recorded);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let ranges = ["10.1.0.0/16", "fd00:1::/64"];
        let ranges: Vec<_> = ranges.iter().filter_map(|range| range.parse().ok()).collect();
        if let Ok(filled) = probe::template(text, &ranges) {
            assert!(!filled.contains("{{.") || text.contains("}}"), "{text:?} is filled half");
        }
    }
}

/// What plugins print at ADD.
pub fn answer(data: &[u8]) {
    if let Ok(recorded) = probe::answer(data) {
        holds(recorded);
    }
}

/// What is recorded is read again, or what it tells of would be forgotten.
fn holds(recorded: Recorded) {
    let Recorded { mut before, after } = recorded;
    let mut after = after.unwrap_or_else(|e| panic!("a record cannot be read again: {e}"));
    // The last digit of a number with a point may change when it is read.
    round(&mut before);
    round(&mut after);
    assert_eq!(before, after, "a record changes when it is written");
}

fn round(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => *value = Value::Null,
        Value::Array(all) => all.iter_mut().for_each(round),
        Value::Object(all) => all.values_mut().for_each(round),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
