//! The corpus of each target and changes of it: the bounded part of what a fuzzer does without end, the same each
//! time. What a fuzzer has found stays in the corpus.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// Changes of all inputs of a target together, where `ISOPOD_CHANGES` does not say another number.
const CHANGES: usize = 3_000;

/// What programs trip over.
const WORDS: [&[u8]; 14] = [
    b"\0",
    b"..",
    b"/",
    b"\n",
    b"-1",
    b"18446744073709551615",
    b"9223372036854775808",
    b"\xff\xff\xff\xff",
    b"{",
    b"[[",
    b"\"",
    b"null",
    b"77777777777",
    b"\x80\0\0\0\0\0\0\0",
];

fn change(input: &[u8], other: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.usize(..4) {
        let at = random.usize(..bytes.len() + 1);
        match random.usize(..7) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.usize(..8);
                }
            }
            1 => bytes.truncate(at),
            2 => {
                let word = WORDS[random.usize(..WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            3 => {
                let word = WORDS[random.usize(..WORDS.len())];
                let end = (at + word.len()).min(bytes.len());
                bytes.splice(at..end, word.iter().copied());
            }
            4 => {
                let end = (at + random.usize(..64)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let end = (at + random.usize(..512)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let from = random.usize(..other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory);
    let entries = entries.unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn run(target: &str) {
    let feed = fuzz::find(target).unwrap_or_else(|| panic!("there is no target {target}")).feed;
    let directory = corpus().join(target);
    let names = names(&directory);
    assert!(names.len() > 2, "the corpus of {target} is too small");
    let inputs: Vec<_> = names.iter().map(|n| std::fs::read(directory.join(n)).unwrap()).collect();
    let asked = std::env::var("ISOPOD_CHANGES").ok().and_then(|text| text.parse().ok());
    let changes = asked.unwrap_or(CHANGES);
    let mut random = Rng::with_seed(0x9e37_79b9_7f4a_7c15);
    for (name, input) in names.iter().zip(&inputs) {
        // Printed where it fails.
        println!("{target}/{name}");
        feed(input);
        for _ in 0..changes / inputs.len() {
            let other = &inputs[random.usize(..inputs.len())];
            feed(&change(input, other, &mut random));
        }
    }
}

macro_rules! targets {
    ($($test:ident: $target:literal)*) => {
        $(
            #[test]
            fn $test() {
                run($target);
            }
        )*

        #[test]
        fn every_target_has_a_test_and_a_corpus() {
            let tested = BTreeSet::from([$($target.to_owned()),*]);
            let known: BTreeSet<_> = fuzz::TARGETS.iter().map(|t| t.name.to_owned()).collect();
            assert_eq!(tested, known);
            assert_eq!(names(&corpus()), known);
        }
    };
}

targets! {
    references_are_read_or_refused: "reference"
    manifests_and_indexes_are_read_or_refused: "document"
    configurations_of_images_are_read_or_refused: "config"
    archives_of_every_compression_are_read_or_refused: "archive"
    hosts_files_are_read_or_refused: "hosts"
    policies_and_keys_are_read_or_refused: "policy"
    spdy_frames_are_read_or_refused_however_they_are_cut: "spdy-frames"
    spdy_headers_are_read_or_refused: "spdy-headers"
    a_spdy_connection_ends_whatever_its_peer_sends: "spdy-connection"
    websocket_frames_are_read_or_refused_however_they_are_cut: "websocket-frames"
    websocket_channels_end_whatever_their_peer_sends: "websocket-channels"
    an_error_channel_is_understood: "status"
    configurations_of_networks_are_read_or_refused: "cni-conf"
    results_of_plugins_are_read_or_refused: "cni-result"
    requests_become_specs_or_are_refused: "request"
    profiles_become_programs_that_the_kernel_takes_or_are_refused: "seccomp"
    messages_of_monitors_are_read_or_refused: "monitor"
    records_are_read_or_refused: "record"
    specs_of_devices_are_applied_or_refused: "cdi"
    logs_are_read_whoever_wrote_them: "log"
}
