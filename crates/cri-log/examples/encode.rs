//! Prints how fast lines become records: `cargo run --release -p cri-log --example encode`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use cri_log::{Encoder, Records, Stamper, Stream, Time};

/// What a pipe holds by default, and so what one read gives at most.
const CHUNK: usize = 64 << 10;
const MEASURE_FOR: Duration = Duration::from_secs(1);

fn main() {
    for line in [1, 20, 100, 1000, 10_000, 100_000] {
        let input: Vec<u8> =
            (1..=CHUNK).map(|at| if at % line == 0 { b'\n' } else { b'x' }).collect();
        println!(
            "lines of {line:>6} bytes: encoded {:>6.0} MB/s, decoded {:>6.0} MB/s",
            encoding(&input),
            decoding(&input)
        );
    }
}

/// Megabytes of input for each second.
fn encoding(input: &[u8]) -> f64 {
    let (mut stamper, mut encoder) = (Stamper::new(), Encoder::new(Stream::Stdout));
    let mut out = Vec::with_capacity(CHUNK * 2);
    rate(input.len(), |round| {
        let stamp =
            *stamper.stamp(Time::from_nanoseconds(1_700_000_000_000_000_000 + round * 50_000));
        let mut rest = input;
        while !rest.is_empty() {
            rest = encoder.encode(&stamp, rest, &mut out);
            black_box(&out);
            out.clear();
        }
    })
}

/// Megabytes of log for each second.
fn decoding(input: &[u8]) -> f64 {
    let stamp = *Stamper::new().stamp(Time::EPOCH);
    let (mut encoder, mut log) = (Encoder::new(Stream::Stdout), Vec::with_capacity(CHUNK * 64));
    assert!(encoder.encode(&stamp, input, &mut log).is_empty());
    rate(log.len(), |_| {
        for record in Records::new(&log) {
            black_box(&record).as_ref().expect("what was encoded decodes");
        }
    })
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(bytes: usize, mut work: impl FnMut(i64)) -> f64 {
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < MEASURE_FOR {
        work(rounds);
        rounds += 1;
    }
    rounds as f64 * bytes as f64 / start.elapsed().as_secs_f64() / 1e6
}
