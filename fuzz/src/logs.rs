//! Logs of containers.

use cri_log::{Encoder, Record, Records, Stamp, Stream, Tag, Time, since, tail};

/// A log by whomever; and any output, written as a log and read again.
pub fn log(data: &[u8]) {
    let end = data.len() as u64;
    let lines = data.iter().filter(|b| **b == b'\n').count() as u64;
    for count in [0, 1, 2, 10] {
        let at = tail(data, end, count).unwrap_or_else(|e| panic!("the last {count} lines: {e}"));
        assert!(at <= end, "{at} is behind the end of the log");
        assert!(count <= lines || at == 0 || count == 0, "{at}: lines were passed over");
    }
    for time in [Time::EPOCH, Time::new(1_475_713_029, 669_794_202), Time::MAX] {
        let at = since(data, end, time).unwrap_or_else(|e| panic!("since {time:?}: {e}"));
        assert!(at <= end, "{at} is behind the end of the log");
    }
    // Others are written as the nearest that can be.
    let can_be = |record: &Record<'_>| (Time::EPOCH..=Time::MAX).contains(&record.time);
    for record in Records::new(data).flatten().filter(can_be) {
        let again = Time::parse(Stamp::of(record.time).as_str().as_bytes());
        assert_eq!(again, Ok(record.time), "a time changes when it is written");
    }
    written(data);
}

fn written(output: &[u8]) {
    let stamp = Stamp::of(Time::EPOCH);
    let (mut encoder, mut out, mut log) = (Encoder::new(Stream::Stdout), Vec::new(), Vec::new());
    let size = 1 + output.len() % 97;
    for chunk in output.chunks(size) {
        let mut rest = chunk;
        while !rest.is_empty() {
            rest = encoder.encode(&stamp, rest, &mut out);
            log.append(&mut out);
        }
    }
    encoder.finish(&stamp, &mut log);
    let mut records = Records::new(&log);
    let mut read = Vec::new();
    for record in records.by_ref() {
        let Ok(Record { content, tag, .. }) = record else { panic!("we wrote {record:?}") };
        read.extend_from_slice(content);
        read.extend_from_slice(if tag == Tag::Full { b"\n" } else { b"" });
    }
    assert!(records.rest().is_empty(), "the log ends within a record");
    assert!(read == output, "the log says something else than the container");
}
