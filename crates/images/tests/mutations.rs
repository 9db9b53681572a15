//! What strangers' bytes are fed to, with the corpus of `fuzz/` and changes of it: the bounded part of
//! what `cargo fuzz` does without end. The same changes each time.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

#[path = "../../../fuzz/src/entry.rs"]
mod entry;

/// Changes of each input.
const CHANGES: usize = 400;

/// Numbers without a pattern (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most.max(1) as u64).unwrap()
    }
}

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

fn change(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => bytes.truncate(at),
            2 => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            3 => {
                let word = WORDS[random.below(WORDS.len())];
                let end = (at + word.len()).min(bytes.len());
                bytes.splice(at..end, word.iter().copied());
            }
            4 => {
                let end = (at + random.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let end = (at + random.below(512)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn run(target: &str, feed: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut names: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    assert!(names.len() > 2, "the corpus of {target} is too small");
    let inputs: Vec<_> = names.iter().map(|n| std::fs::read(n).unwrap()).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for input in &inputs {
        feed(input);
        for _ in 0..CHANGES {
            let other = &inputs[random.below(inputs.len())];
            feed(&change(input, other, &mut random));
        }
    }
}

#[test]
fn references_are_read_or_refused() {
    run("reference", entry::reference);
}

#[test]
fn manifests_and_indexes_are_read_or_refused() {
    run("document", entry::document);
}

#[test]
fn configurations_are_read_or_refused() {
    run("config", entry::config);
}

#[test]
fn archives_of_every_compression_are_read_or_refused() {
    run("archive", entry::archive);
}

#[test]
fn hosts_files_are_read_or_refused() {
    run("hosts", entry::hosts);
}

#[test]
fn policies_and_keys_are_read_or_refused() {
    run("policy", entry::policy);
}
