//! The recorded exchange of docs/formats/monitor.md: what is on the wire is what the types say, so that a
//! daemon of one build and a monitor of another understand each other.

#![expect(clippy::unwrap_used, reason = "a test ends where something unforeseen happens")]

use std::collections::BTreeSet;

use monitor_api::{Decoder, FromMonitor, ToMonitor, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const EXCHANGE: &str = include_str!("exchange.txt");

/// Reads `json` as a message and writes it again, through frames.
fn pass<T: Serialize + DeserializeOwned>(json: &str) -> Value {
    let given: Value = serde_json::from_str(json).unwrap();
    let mut decoder = Decoder::default();
    decoder.push(&encode(&given).unwrap());
    let message: T = decoder.take().unwrap_or_else(|e| panic!("{e}: {json}")).unwrap();
    let written = serde_json::to_value(&message).unwrap();
    assert_eq!(written, given, "what is read is written again unchanged");
    written
}

/// The name of the variant that `value` is.
fn variant(value: &Value) -> String {
    let named = value.as_object().and_then(|map| map.keys().next());
    named.map(String::as_str).or(value.as_str()).unwrap().to_owned()
}

#[test]
fn the_recorded_exchange_is_understood_and_shows_every_message() {
    let mut seen = BTreeSet::new();
    for line in EXCHANGE.lines() {
        match line.split_at(2) {
            ("# ", _) => {}
            ("> ", json) => {
                let message = pass::<ToMonitor>(json);
                seen.insert(format!("request {}", variant(&message["request"])));
            }
            ("< ", json) => {
                let message = pass::<FromMonitor>(json);
                match (message.get("reply"), message.get("event")) {
                    (Some(reply), None) => match reply["result"].get("Ok") {
                        Some(ok) => seen.insert(format!("reply {}", variant(ok))),
                        None => seen.insert("reply refused".to_owned()),
                    },
                    (None, Some(event)) => seen.insert(format!("event {}", variant(event))),
                    _ => panic!("{message}"),
                };
            }
            _ => panic!("{line}"),
        }
    }
    let expected = [
        "attach",
        "close_stdin",
        "create",
        "detach",
        "exec",
        "hang_up",
        "hello",
        "kill",
        "kill_exec",
        "remove",
        "reopen_log",
        "resize",
        "setup",
        "shutdown",
        "sockets",
        "start",
    ]
    .map(|name| format!("request {name}"))
    .into_iter()
    .chain(
        [
            "attached",
            "created",
            "done",
            "exec_started",
            "ready",
            "refused",
            "sockets",
            "started",
            "welcome",
        ]
        .map(|name| format!("reply {name}")),
    )
    .chain(["attach_ended", "exec_ended", "exited"].map(|name| format!("event {name}")));
    assert_eq!(seen, expected.collect());
}

#[test]
fn a_message_without_the_fields_that_came_later_is_understood() {
    let old = r#"{"id":1,"request":{"exec":{"container":"CONTAINER","exec":6,"args":["id"]}}}"#;
    let message: ToMonitor =
        serde_json::from_str(&old.replace("CONTAINER", &"a".repeat(64))).unwrap();
    assert_eq!(message.fds, 0);
    let unknown = r#"{"id":1,"request":{"kill_exec":{"exec":6,"later":true}}}"#;
    assert!(
        serde_json::from_str::<ToMonitor>(unknown).is_ok(),
        "a field of a later version is passed over"
    );
}
