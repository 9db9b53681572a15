//! What verbs print: tables for people, JSON or YAML for programs.
//!
//! Always: colour and fitting to a width only on a terminal; JSON is the canonical JSON of protobuf
//! with all fields, so it is the same for every runtime.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use super::failure::{Doing, Failure};

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Table,
    /// JSON, all fields
    Json,
    /// YAML, all fields
    Yaml,
}

/// A message of `runtime.v1` as JSON; `name` is its own.
pub fn json_of(message: &impl Message, name: &str) -> Result<Value, Failure> {
    let doing = || format!("print a {name}");
    let failed = |error: &dyn std::error::Error| Failure::caused(doing(), error);
    let pool = DescriptorPool::decode(cri_api::FILE_DESCRIPTOR_SET).map_err(|e| failed(&e))?;
    let Some(descriptor) = pool.get_message_by_name(&format!("runtime.v1.{name}")) else {
        return Err(Failure::new(doing(), "it has no descriptor"));
    };
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).map_err(|e| failed(&e))?;
    let options = SerializeOptions::new().skip_default_fields(false);
    dynamic.serialize_with_options(serde_json::value::Serializer, &options).map_err(|e| failed(&e))
}

/// The verbose part of a status: texts that are JSON become what they say.
pub fn opened(info: &BTreeMap<String, String>) -> Value {
    let pairs = info.iter().map(|(key, text)| {
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
        (key.clone(), value)
    });
    Value::Object(pairs.collect())
}

/// Prints a value for programs; a table, which has no form for it, as JSON.
pub fn value(value: &Value, form: Form) -> Result<(), Failure> {
    let text = match form {
        Form::Table | Form::Json => serde_json::to_string_pretty(value)
            .map_err(|error| Failure::caused("print JSON", &error))?,
        Form::Yaml => {
            serde_saphyr::to_string(value).map_err(|error| Failure::caused("print YAML", &error))?
        }
    };
    line(text.trim_end())
}

/// Prints a line. A reader that has gone (`| head`) ends the program without a word.
pub fn line(text: &str) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes(), &mut io::stdout().lock())
}

/// Writes bytes as they are.
pub fn bytes(bytes: &[u8], to: &mut dyn Write) -> Result<(), Failure> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failure::new(super::READER_IS_GONE, ""))
        }
        other => other.doing("print"),
    }
}

/// A table under construction.
#[derive(Debug)]
pub struct Rows {
    table: Table,
    terminal: bool,
}

impl Rows {
    /// A table with these columns.
    pub fn new(columns: &[&str]) -> Self {
        let terminal = io::stdout().is_terminal();
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(if terminal {
            ContentArrangement::Dynamic
        } else {
            ContentArrangement::Disabled
        });
        let head = |name: &&str| {
            let cell = Cell::new(name);
            if terminal { cell.add_attribute(Attribute::Bold) } else { cell }
        };
        table.set_header(columns.iter().map(head));
        Self { table, terminal }
    }

    /// One more row; the words for states get their colour.
    pub fn add(&mut self, cells: impl IntoIterator<Item = String>) {
        let coloured = |text: String| {
            let colour = if self.terminal { colour(&text) } else { None };
            let cell = Cell::new(text);
            match colour {
                Some(colour) => cell.fg(colour),
                None => cell,
            }
        };
        self.table.add_row(cells.into_iter().map(coloured));
    }

    /// Prints it, its left edge at the terminal's.
    pub fn print(mut self) -> Result<(), Failure> {
        let last = self.table.column_count().saturating_sub(1);
        for (at, column) in self.table.column_iter_mut().enumerate() {
            column.set_padding((0, if at == last { 0 } else { 3 }));
        }
        let text = self.table.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        line(&lines.join("\n"))
    }
}

fn colour(text: &str) -> Option<Color> {
    match text {
        "Running" | "Ready" | "true" => Some(Color::Green),
        "Created" => Some(Color::Yellow),
        "NotReady" | "Unknown" | "false" => Some(Color::Red),
        exited if exited.starts_with("Exited") => Some(Color::DarkGrey),
        _ => None,
    }
}

/// Says something to the person on stderr, beside what the verb prints. Nobody need hear it.
pub fn aside(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
