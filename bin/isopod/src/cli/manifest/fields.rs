//! Reading an object whose every field must be accounted for.
//!
//! Always: a field that nobody has asked for by the time the object is dropped is a problem with its
//! path; so what is not honoured is never ignored. Fields that ask for nothing (null, `{}`, `[]`)
//! are no problem.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// What is wrong with a document, each with the path of the field.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<String>>);

impl Problems {
    /// One more.
    pub fn add(&self, path: &str, why: &str) {
        self.0.borrow_mut().push(format!("{path}: {why}"));
    }

    /// All of them, in the order in which they were found.
    pub fn into_list(self) -> Vec<String> {
        self.0.into_inner()
    }
}

/// An object of a document.
#[derive(Debug)]
pub struct Fields<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    asked: BTreeSet<&'static str>,
    problems: &'a Problems,
}

impl<'a> Fields<'a> {
    /// The object `value` at `path`; anything else is a problem, and reads as an empty object.
    pub fn of(value: &'a Value, path: String, problems: &'a Problems) -> Self {
        let map = value.as_object();
        if map.is_none() && !value.is_null() {
            problems.add(&path, "this should be an object");
        }
        Self { path, map, asked: BTreeSet::new(), problems }
    }

    /// The path of one of its fields.
    pub fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// One of its fields is wrong.
    pub fn refuse(&self, key: &str, why: &str) {
        self.problems.add(&self.path(key), why);
    }

    /// The value of a field, if it is there and not null.
    fn take(&mut self, key: &'static str) -> Option<&'a Value> {
        self.asked.insert(key);
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// A text.
    pub fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let value = self.take(key)?;
        if value.as_str().is_none() {
            self.refuse(key, "this should be a text");
        }
        value.as_str()
    }

    /// A text that must be there.
    pub fn required(&mut self, key: &'static str) -> &'a str {
        let text = self.text(key).unwrap_or_default();
        if text.is_empty() && self.map.is_some_and(|map| !map.contains_key(key)) {
            self.refuse(key, "this is missing");
        }
        text
    }

    /// A whole number.
    pub fn number(&mut self, key: &'static str) -> Option<i64> {
        let value = self.take(key)?;
        if value.as_i64().is_none() {
            self.refuse(key, "this should be a whole number");
        }
        value.as_i64()
    }

    /// A port number.
    pub fn port(&mut self, key: &'static str) -> Option<i32> {
        let number = self.number(key)?;
        let port = i32::try_from(number).ok().filter(|port| (1..=65_535).contains(port));
        if port.is_none() {
            self.refuse(key, "a port is a number from 1 to 65535");
        }
        port
    }

    /// True or false; false where it is not there.
    pub fn flag(&mut self, key: &'static str) -> bool {
        self.maybe_flag(key).unwrap_or(false)
    }

    /// True or false, or not said.
    pub fn maybe_flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        if value.as_bool().is_none() {
            self.refuse(key, "this should be true or false");
        }
        value.as_bool()
    }

    /// A quantity: a text or a number, as text.
    pub fn quantity(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                self.refuse(key, "this should be a quantity such as 250m or 64Mi");
                None
            }
        }
    }

    /// An object within.
    pub fn object(&mut self, key: &'static str) -> Option<Fields<'a>> {
        let value = self.take(key)?;
        Some(Fields::of(value, self.path(key), self.problems))
    }

    /// The objects of a list within.
    pub fn objects(&mut self, key: &'static str) -> Vec<Fields<'a>> {
        let path = self.path(key);
        self.list(key)
            .iter()
            .enumerate()
            .map(|(at, value)| Fields::of(value, format!("{path}[{at}]"), self.problems))
            .collect()
    }

    /// The texts of a list within.
    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        let list = self.list(key);
        if list.iter().any(|value| !value.is_string()) {
            self.refuse(key, "this should be a list of texts; quote numbers and true, false");
        }
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The whole numbers of a list within.
    pub fn numbers(&mut self, key: &'static str) -> Vec<i64> {
        let list = self.list(key);
        if list.iter().any(|value| !value.is_i64()) {
            self.refuse(key, "this should be a list of whole numbers");
        }
        list.iter().filter_map(Value::as_i64).collect()
    }

    /// An object of texts, with any keys.
    pub fn map(&mut self, key: &'static str) -> BTreeMap<String, String> {
        let Some(value) = self.take(key) else { return BTreeMap::new() };
        let pairs = value.as_object();
        if pairs.is_none_or(|pairs| pairs.values().any(|value| !value.is_string())) {
            self.refuse(key, "this should be an object of texts; quote numbers and true, false");
        }
        let pairs = pairs.into_iter().flatten();
        pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
    }

    fn list(&mut self, key: &'static str) -> &'a [Value] {
        let Some(value) = self.take(key) else { return &[] };
        if !value.is_array() {
            self.refuse(key, "this should be a list");
        }
        value.as_array().map_or(&[], Vec::as_slice)
    }
}

impl Drop for Fields<'_> {
    fn drop(&mut self) {
        for (key, value) in self.map.into_iter().flatten() {
            let asks = match value {
                Value::Null => false,
                Value::Array(list) => !list.is_empty(),
                Value::Object(map) => !map.is_empty(),
                Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
            };
            if asks && !self.asked.contains(key.as_str()) {
                self.refuse(key, "`isopod run` cannot honour this field; remove it");
            }
        }
    }
}
