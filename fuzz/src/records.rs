//! Records on disk.

use monitor_api::ExitRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Record, decode, encode};

/// A record of any shape, of a version that has had others.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Note(Value);

impl Record for Note {
    const KIND: &'static str = "note";
    const VERSION: u32 = 3;
}

/// A file as it is, and a body behind a header that fits it.
pub fn record(data: &[u8]) {
    whole::<Note>(data);
    whole::<ExitRecord>(data);
    // A checksum keeps everything else out.
    for version in [1, 3, 4] {
        whole::<Note>(&headed::<Note>(version, data));
    }
    whole::<ExitRecord>(&headed::<ExitRecord>(1, data));
}

fn headed<R: Record>(version: u32, body: &[u8]) -> Vec<u8> {
    // As another reader of docs/formats/record.md would make it: what `encode` writes for these bytes, by hand.
    let mut crc = flate2::Crc::new();
    crc.update(body);
    let head = format!("isopod-record {} {version} {:08x} {}\n", R::KIND, crc.sum(), body.len());
    [head.as_bytes(), body, b"\n"].concat()
}

fn whole<R: Record>(bytes: &[u8]) {
    let Ok(record) = decode::<R>(bytes) else { return };
    let Ok(written) = encode(&record) else { panic!("what was read cannot be written") };
    let again = decode::<R>(&written).map(|r| encode(&r).ok());
    // A number with a point may change in its last digit, once.
    if !written.contains(&b'.') && !written.contains(&b'e') {
        assert_eq!(again.ok().flatten(), Some(written), "a record changes when it is written");
    }
}
