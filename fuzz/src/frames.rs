//! Messages between the daemon and a monitor.

use monitor_api::{BadFrame, Decoder, FromMonitor, ToMonitor, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::pieces;

/// Both directions.
pub fn monitor(data: &[u8]) {
    direction::<ToMonitor>(data);
    direction::<FromMonitor>(data);
}

fn direction<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let messages = pieces::same(data, |pieces| {
        let mut decoder = Decoder::default();
        let mut got = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            loop {
                match decoder.take::<T>() {
                    Ok(Some(message)) => got.push(Ok(value(&message))),
                    Ok(None) => break,
                    Err(bad @ BadFrame::Unknown { .. }) => got.push(Err(bad.to_string())),
                    Err(bad @ (BadFrame::TooLong(_) | BadFrame::Unwritable(_))) => {
                        got.push(Err(bad.to_string()));
                        return got;
                    }
                }
            }
        }
        got
    });
    for message in messages.into_iter().flatten().flatten() {
        let Ok(typed) = serde_json::from_value::<T>(message.clone()) else {
            panic!("what was read is not a message when it is written: {message}")
        };
        let Ok(bytes) = encode(&typed) else { panic!("what was read cannot be written") };
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        let again = decoder.take::<T>().ok().flatten().map(|m| value(&m));
        assert_eq!(again, Some(message), "a message changes on its way");
    }
}

/// What a message says. Numbers with a point may change in their last digit when they are read; there are none.
fn value<T: Serialize>(message: &T) -> Value {
    serde_json::to_value(message).unwrap_or_else(|e| panic!("a message cannot be written: {e}"))
}
