//! One TOML file as a list of keys with their lines.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use super::kind::{Given, Value};
use super::mistake::{Mistake, Origin};

/// One key of a file.
#[derive(Debug)]
pub struct Item {
    /// Its name's parts.
    pub path: Vec<String>,
    /// Its value.
    pub value: Value,
    /// The value as it stands in the file.
    pub shown: String,
    /// Where it stands.
    pub origin: Origin,
}

/// What a file says.
#[derive(Debug, Default)]
pub struct Document {
    /// Keys whose values are as they should be.
    pub items: Vec<Item>,
    /// Keys and tables of which a mistake hides what was meant.
    pub unsure: Vec<Vec<String>>,
    /// Whether the file is no TOML: then nothing is known of what it says.
    pub is_broken: bool,
}

/// Reads `text`, which stands in `file`; mistakes go to `mistakes`.
pub fn read(file: &Path, text: &str, mistakes: &mut Vec<Mistake>) -> Document {
    let mut walk = Walk { file, text, mistakes, said: Document::default() };
    match DeTable::parse(text) {
        Ok(table) => walk.table(&mut Vec::new(), table.get_ref()),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            walk.said.is_broken = true;
            walk.mistake(at, error.message().replace('\n', "; "));
        }
    }
    walk.said
}

struct Walk<'a> {
    file: &'a Path,
    text: &'a str,
    mistakes: &'a mut Vec<Mistake>,
    said: Document,
}

impl Walk<'_> {
    fn table(&mut self, path: &mut Vec<String>, table: &DeTable<'_>) {
        for (name, value) in table {
            path.push(name.get_ref().to_string());
            self.entry(path, name.span().start, value);
            path.pop();
        }
    }

    fn entry(&mut self, path: &mut Vec<String>, at: usize, value: &Spanned<DeValue<'_>>) {
        if let Some(below) = value.get_ref().as_table()
            && keys::all().any(|key| key.is_below(path))
        {
            return self.table(path, below);
        }
        let Some(key) = keys::find(path) else {
            let near = keys::near(path);
            let meant = near.as_ref().map(|name| name.split('.').map(str::to_owned).collect());
            self.said.unsure.extend([path.clone()].into_iter().chain(meant));
            let near = near.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default();
            return self.mistake(at, format!("unknown key `{}`{near}", path.join(".")));
        };
        let shown = self.text.get(value.span()).unwrap_or("").to_owned();
        match key.kind.read(&given(value.get_ref())) {
            Ok(value) => {
                let origin = self.origin(at);
                self.said.items.push(Item { path: path.clone(), value, shown, origin });
            }
            Err(expected) => {
                self.said.unsure.push(path.clone());
                let shown = if key.kind == super::kind::Kind::Secret { "…" } else { &shown };
                let problem = format!("`{}` is {shown}: {expected} is needed", path.join("."));
                self.mistake(at, problem);
            }
        }
    }

    fn origin(&self, at: usize) -> Origin {
        let before = self.text.get(..at).unwrap_or("");
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        Origin::File { path: self.file.to_owned(), line }
    }

    fn mistake(&mut self, at: usize, problem: String) {
        let origin = self.origin(at);
        self.mistakes.push(Mistake { origin, problem });
    }
}

fn given(value: &DeValue<'_>) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Given::Other("number out of range"), Given::Whole),
        DeValue::Array(list) => {
            let texts: Option<Vec<String>> =
                list.iter().map(|one| one.get_ref().as_str().map(str::to_owned)).collect();
            texts.map_or(Given::Other("list"), Given::Texts)
        }
        DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            Given::Other(value.type_str())
        }
    }
}

/// The value that `text`, a default of the table, spells.
pub fn value(text: &str) -> Option<Given> {
    DeValue::parse(text).ok().map(|value| given(value.get_ref()))
}
