//! Prometheus' text format as values for programs.

use serde_json::{Map, Value, json};

/// The families of an exposition in its order: name, help, type, and samples with labels and value. A line that is
/// none of the format is left out.
pub fn of(text: &str) -> Value {
    let mut families: Vec<Family> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (Some(what), Some(name)) = (words.next(), words.next()) else { continue };
            let said = words.next().unwrap_or_default().to_owned();
            match what {
                "HELP" => family(&mut families, name).help = said,
                "TYPE" => family(&mut families, name).kind = said,
                _ => {}
            }
        } else if let Some((name, labels, value)) = sample(line) {
            let sample = json!({ "name": name, "labels": labels, "value": value });
            let of = families.iter_mut().rfind(|family| has(&family.name, name));
            match of {
                Some(family) => family.samples.push(sample),
                None => family(&mut families, name).samples.push(sample),
            }
        }
    }
    families.into_iter().map(Family::json).collect()
}

#[derive(Default)]
struct Family {
    name: String,
    help: String,
    kind: String,
    samples: Vec<Value>,
}

impl Family {
    fn json(self) -> Value {
        let Self { name, help, kind, samples } = self;
        json!({ "name": name, "help": help, "type": kind, "samples": samples })
    }
}

/// The family of this name; a new one where there is none.
fn family<'a>(families: &'a mut Vec<Family>, name: &str) -> &'a mut Family {
    let at = families.iter().position(|family| family.name == name).unwrap_or_else(|| {
        families.push(Family { name: name.to_owned(), ..Family::default() });
        families.len() - 1
    });
    &mut families[at]
}

/// Whether a sample belongs to a family: a histogram's samples have endings, and so have counters in OpenMetrics.
fn has(family: &str, sample: &str) -> bool {
    sample
        .strip_prefix(family)
        .is_some_and(|rest| matches!(rest, "" | "_total" | "_bucket" | "_sum" | "_count" | "_info"))
}

/// Name, labels and value of a line. A value that JSON has no number for (`NaN`, `+Inf`) is a text.
fn sample(line: &str) -> Option<(&str, Map<String, Value>, Value)> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Map::new(), rest),
    };
    // After the value there may be a time.
    let value = rest.split_whitespace().next()?;
    let number = value.parse::<u64>().map(Value::from).ok();
    let number = number
        .or_else(|| value.parse().ok().and_then(serde_json::Number::from_f64).map(Value::from));
    Some((name, labels, number.unwrap_or_else(|| Value::from(value)))).filter(|_| !name.is_empty())
}

/// The labels up to the closing brace, and what follows it.
fn labels(text: &str) -> Option<(Map<String, Value>, &str)> {
    let mut all = Map::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((all, after));
        }
        let (key, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        rest = loop {
            match characters.next()? {
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (at, '"') => break &quoted[at + 1..],
                (_, other) => value.push(other),
            }
        };
        all.insert(key.to_owned(), Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_their_samples_with_labels_and_values() {
        let text = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\n\
                    a_seconds_bucket{le=\"0.5\",x=\"q\\\"}\\n\"} 3\na_seconds_bucket{le=\"+Inf\"} 4\n\
                    a_seconds_sum 1.25\na_seconds_count 4\n\
                    # HELP b_total All.\n# TYPE b_total counter\nb_total 18446744073709551615 123\n\
                    c NaN\n# EOF\n";
        let all = of(text);
        assert_eq!(all.as_array().unwrap().len(), 3);
        assert_eq!((&all[0]["name"], &all[0]["type"]), (&json!("a_seconds"), &json!("histogram")));
        assert_eq!(all[0]["help"], "How long.");
        assert_eq!(all[0]["samples"][0]["labels"], json!({ "le": "0.5", "x": "q\"}\n" }));
        assert_eq!(
            all[0]["samples"][2],
            json!({ "name": "a_seconds_sum", "labels": {}, "value": 1.25 })
        );
        assert_eq!(all[0]["samples"].as_array().unwrap().len(), 4);
        assert_eq!(all[1]["samples"][0]["value"], u64::MAX);
        assert_eq!(all[2]["samples"][0]["value"], "NaN");
    }
}
