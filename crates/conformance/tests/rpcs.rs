//! docs/conformance/rpcs.md: each call and field, what Isopod does, and the cases that show it.
//!
//! The page is written anew with `ISOPOD_WRITE_GUIDE=1 cargo test -p conformance --test rpcs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use conformance::items;

/// The comments of the API's own file, by the name of what they stand above.
fn comments(proto: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (mut words, mut message) = (Vec::new(), String::new());
    for line in proto.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("//") {
            words.push(comment.trim().to_owned());
            continue;
        }
        let said = std::mem::take(&mut words).join(" ").trim().to_owned();
        if let Some(rest) = line.strip_prefix("rpc ") {
            found.insert(rest.split('(').next().unwrap_or_default().trim().to_owned(), said);
        } else if let Some(rest) = line.strip_prefix("message ") {
            message = rest.split([' ', '{']).next().unwrap_or_default().to_owned();
            found.insert(message.clone(), said);
        } else if let Some((before, _)) = line.split_once(" = ") {
            let field = before.rsplit(' ').next().unwrap_or_default();
            found.entry(format!("{message}.{field}")).or_insert(said);
        }
    }
    found
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The page.
fn page(proto: &str) -> String {
    let said = comments(proto);
    let mut shown: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for case in conformance::all() {
        for name in case.covers {
            shown.entry(name).or_default().push(case.name);
        }
    }
    let cases = |name: &str| match shown.get(name) {
        None => "–".to_owned(),
        Some(names) => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" "),
    };
    let mut text = "# What Isopod does with each call and field\n\n\
        Generated from the comments of `crates/cri-api/proto` and the cases of `crates/conformance`; \
        `isopod check --list` has the rule of each case. Messages of Windows nodes are left out: Isopod \
        ignores them.\n"
        .to_owned();
    let all = items();
    for service in ["RuntimeService", "ImageService"] {
        // Writing to a string does not fail, here and below.
        let _ = write!(text, "\n## {service}\n\n| call | what it does | cases |\n|---|---|---|\n");
        for item in &all {
            let Some(call) = item.call.as_ref().filter(|call| call.service == service) else {
                continue;
            };
            let words = said.get(&item.name).map_or("", String::as_str);
            let messages = format!("{} → {}", call.request, call.answer);
            let _ = writeln!(
                text,
                "| {} ({messages}) | {} | {} |",
                item.name,
                cell(words),
                cases(&item.name)
            );
        }
    }
    text.push_str("\n## Messages\n");
    for item in all.iter().filter(|item| item.call.is_none() && !item.name.starts_with("Windows")) {
        let words = cell(said.get(&item.name).map_or("", String::as_str));
        if let Some((_, field)) = item.name.split_once('.') {
            let _ = writeln!(text, "| {field} | {words} | {} |", cases(&item.name));
        } else if all.iter().any(|other| other.name.starts_with(&format!("{}.", item.name))) {
            let _ = write!(
                text,
                "\n### {}\n\n{words}\n\n| field | meaning | cases |\n|---|---|---|\n",
                item.name
            );
        }
    }
    text
}

#[test]
fn the_page_of_calls_and_fields_is_what_the_cases_say() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto =
        std::fs::read_to_string(here.join("../cri-api/proto/runtime/v1/api.proto")).unwrap();
    let wanted = page(&proto);
    let path = here.join("../../docs/conformance/rpcs.md");
    if std::env::var_os("ISOPOD_WRITE_GUIDE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == wanted,
        "write it anew: ISOPOD_WRITE_GUIDE=1 cargo test -p conformance --test rpcs"
    );
}

#[test]
fn every_call_has_words_and_a_case() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto =
        std::fs::read_to_string(here.join("../cri-api/proto/runtime/v1/api.proto")).unwrap();
    let said = comments(&proto);
    for item in items().iter().filter(|item| item.call.is_some()) {
        assert!(said.get(&item.name).is_some_and(|words| !words.is_empty()), "{}", item.name);
    }
}
