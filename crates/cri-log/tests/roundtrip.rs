//! What is encoded is decoded to the same bytes, however the stream was cut.

use cri_log::{Encoder, MAX_CONTENT, MAX_RECORD, Record, Records, Stamp, Stream, Tag, Time};
use proptest::prelude::*;

/// Output of a container: mostly lines of text, sometimes long ones, sometimes any bytes.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-z ]{0,80}\n".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (MAX_CONTENT - 2..MAX_CONTENT + 3).prop_map(|n| vec![b'x'; n]),
        1 => (0..3 * MAX_CONTENT).prop_map(|n| vec![b'y'; n]),
        1 => Just(b"\n\n\n".to_vec()),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

/// The log of `output`, read from a pipe in chunks of these sizes (used in turn), written through a
/// buffer of `room` bytes.
fn log(stream: Stream, output: &[u8], sizes: &[usize], room: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(stream);
    let (mut log, mut buffer) = (Vec::new(), Vec::with_capacity(room));
    let mut rest = output;
    for (second, size) in (0..).zip(sizes.iter().cycle()) {
        if rest.is_empty() {
            break;
        }
        let stamp = Stamp::of(Time::new(second, 0));
        let (mut chunk, later) = rest.split_at((*size).min(rest.len()));
        rest = later;
        while !chunk.is_empty() {
            chunk = encoder.encode(&stamp, chunk, &mut buffer);
            log.append(&mut buffer);
            buffer.reserve_exact(room);
        }
    }
    encoder.finish(&Stamp::of(Time::MAX), &mut buffer);
    log.append(&mut buffer);
    log
}

proptest! {
    #[test]
    fn the_output_comes_back_byte_for_byte(
        output in output(),
        sizes in prop::collection::vec(1..40_000_usize, 1..8),
        room in prop_oneof![Just(0_usize), 1..200_000_usize],
    ) {
        let log = log(Stream::Stderr, &output, &sizes, room);
        let mut records = Records::new(&log);
        let found: Vec<Record<'_>> = records.by_ref().collect::<Result<_, _>>().unwrap();
        prop_assert!(records.rest().is_empty());

        let bytes: Vec<u8> =
            found.iter().flat_map(|r| [r.content, r.end()].concat()).collect();
        prop_assert_eq!(bytes, &output[..]);
        prop_assert!(found.iter().all(|r| r.stream == Stream::Stderr));
        prop_assert!(found.windows(2).all(|pair| pair[0].time <= pair[1].time));
        // A piece is as long as can be, unless it is what the stream ended with.
        for (record, later) in found.iter().zip((0..found.len()).rev()) {
            prop_assert!(record.content.len() <= MAX_CONTENT);
            prop_assert!(record.tag == Tag::Full || record.content.len() == MAX_CONTENT || later == 0);
        }
    }

    #[test]
    fn no_record_is_longer_than_promised(output in output(), size in 1..100_000_usize) {
        let log = log(Stream::Stdout, &output, &[size], 100_000);
        for record in log.split_inclusive(|b| *b == b'\n') {
            prop_assert!(record.len() <= MAX_RECORD);
        }
    }
}
