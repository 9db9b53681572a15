//! The compiled descriptors against the table of wire facts, row by row, in both directions.

use std::collections::BTreeSet;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
};

/// Columns: kind, message or service, number or method, label or input, type or output, name, oneof,
/// deprecated. Columns that are empty at a row's end may be missing.
const TABLE: &str = include_str!("cri-v1.tsv");
const PACKAGE: &str = ".runtime.v1.";

#[test]
fn every_row_of_the_table_is_on_the_wire_and_nothing_else_is() {
    let wanted: BTreeSet<String> =
        TABLE.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(trimmed).collect();
    let found: BTreeSet<String> = rows(&file()).into_iter().map(|row| trimmed(&row)).collect();
    assert!(wanted.len() >= 634, "the table is cut: {} rows", wanted.len());

    let missing = wanted.difference(&found).map(|row| format!("missing: {row}"));
    let extra = found.difference(&wanted).map(|row| format!("not in the table: {row}"));
    let differences: Vec<String> = missing.chain(extra).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn there_are_43_calls_and_175_messages() {
    let file = file();
    let calls: usize = file.service.iter().map(|s| s.method.len()).sum();
    assert_eq!((calls, file.message_type.len()), (43, 175));
    assert_eq!(file.syntax(), "proto3");
}

#[test]
fn every_declaration_has_a_comment_above_it() {
    let mut above = "";
    for line in include_str!("../proto/runtime/v1/api.proto").lines().map(str::trim) {
        let starts = |word| line.starts_with(word);
        let declares = ["message ", "enum ", "service ", "rpc ", "oneof "].into_iter().any(starts)
            || (line.ends_with(';') && line.contains(" = ") && !starts("syntax"));
        assert!(!declares || above.starts_with("//"), "no comment above {line:?}");
        above = line;
    }
}

fn file() -> FileDescriptorProto {
    let set: FileDescriptorSet =
        prost::Message::decode(cri_api::FILE_DESCRIPTOR_SET).expect("descriptors do not decode");
    let [file] = <[_; 1]>::try_from(set.file).expect("more files than api.proto");
    assert_eq!(file.package(), "runtime.v1");
    file
}

/// A row without what is empty at its end.
fn trimmed(row: &str) -> String {
    row.trim_end_matches('\t').to_owned()
}

fn rows(file: &FileDescriptorProto) -> Vec<String> {
    let mut rows = Vec::new();
    for service in &file.service {
        rpc_rows(service, &mut rows);
    }
    for message in &file.message_type {
        message_rows(message, &mut rows);
    }
    for e in &file.enum_type {
        enum_rows(e.name(), e, &mut rows);
    }
    rows
}

fn rpc_rows(service: &ServiceDescriptorProto, rows: &mut Vec<String>) {
    let side = |streaming: bool, name: &str| {
        format!("{}{}", if streaming { "stream " } else { "" }, short(name))
    };
    for m in &service.method {
        let input = side(m.client_streaming(), m.input_type());
        let output = side(m.server_streaming(), m.output_type());
        rows.push(format!("rpc\t{}\t{}\t{input}\t{output}", service.name(), m.name()));
    }
}

fn message_rows(message: &DescriptorProto, rows: &mut Vec<String>) {
    if message.field.is_empty() {
        rows.push(format!("message\t{}", message.name()));
    }
    for field in &message.field {
        rows.push(field_row(message, field));
    }
    for e in &message.enum_type {
        enum_rows(&format!("{}.{}", message.name(), e.name()), e, rows);
    }
    for nested in &message.nested_type {
        let is_map = nested.options.as_ref().is_some_and(|o| o.map_entry());
        if !is_map {
            message_rows(nested, rows);
        }
    }
}

fn enum_rows(name: &str, e: &EnumDescriptorProto, rows: &mut Vec<String>) {
    for value in &e.value {
        rows.push(format!("enum\t{name}\t{}\t{}", value.number(), value.name()));
    }
}

fn field_row(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let map = map_type(message, field);
    let label = match field.label() {
        Label::Repeated if map.is_none() => "repeated",
        Label::Required => "required",
        Label::Optional if field.proto3_optional() => "optional",
        Label::Repeated | Label::Optional => "",
    };
    let oneof = field
        .oneof_index
        .and_then(|i| message.oneof_decl.get(usize::try_from(i).ok()?))
        .map_or("", |o| o.name());
    let deprecated = match field.options.as_ref().is_some_and(|o| o.deprecated()) {
        true => "deprecated",
        false => "",
    };
    format!(
        "field\t{}\t{}\t{label}\t{}\t{}\t{oneof}\t{deprecated}",
        message.name(),
        field.number(),
        map.unwrap_or_else(|| type_name(field)),
        field.name(),
    )
}

/// `map<K, V>`, where the field is one.
fn map_type(message: &DescriptorProto, field: &FieldDescriptorProto) -> Option<String> {
    let entry = message.nested_type.iter().find(|nested| {
        nested.options.as_ref().is_some_and(|o| o.map_entry())
            && field.type_name().ends_with(&format!(".{}.{}", message.name(), nested.name()))
    })?;
    let [key, value] = entry.field.as_slice() else { return None };
    Some(format!("map<{}, {}>", type_name(key), type_name(value)))
}

fn type_name(field: &FieldDescriptorProto) -> String {
    if matches!(field.r#type(), Type::Message | Type::Enum) {
        // A nested type is named by its last part, as one writes it inside its message.
        let name = short(field.type_name());
        return name.rsplit('.').next().unwrap_or(&name).to_owned();
    }
    field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase()
}

fn short(name: &str) -> String {
    name.strip_prefix(PACKAGE).unwrap_or(name).to_owned()
}
