//! The last lines of the daemon's own log, for `isopod explain`.
//!
//! Always: bounded in number and length; what is here has been written to the log as well, so it holds no
//! secret that the log does not hold.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that are kept; the oldest are forgotten.
pub const KEPT: usize = 1024;
/// Bytes of one line that are kept.
const LONGEST: usize = 1024;
/// Lines that one answer has at most, the last ones.
const TOLD: usize = 50;

/// The last lines. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Mutex<VecDeque<String>>>);

impl Lines {
    /// Lines that have one of these words in them, the oldest first.
    pub fn about(&self, words: &[String]) -> Vec<String> {
        let lines = self.lock();
        let is_about = |line: &&String| words.iter().any(|word| has(line, word));
        let mut found: Vec<String> =
            lines.iter().rev().filter(is_about).take(TOLD).cloned().collect();
        drop(lines);
        found.reverse();
        found
    }

    fn add(&self, line: &str) {
        let line = line.trim_end_matches('\n');
        let line = line[..line.floor_char_boundary(LONGEST)].to_owned();
        let mut lines = self.lock();
        if lines.len() >= KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        // Whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `word` stands in `line` with no letter, digit or dash at either end: `default/web` is not in a
/// line about `default/web-2`. An id may be followed by the rest of it.
fn has(line: &str, word: &str) -> bool {
    let is_id = word.len() >= 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '-';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(goes_on) && (is_id || !after.is_some_and(goes_on))
    })
}

/// One line under construction.
#[derive(Debug)]
pub struct Line {
    lines: Lines,
    text: Vec<u8>,
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.lines.add(&String::from_utf8_lossy(&self.text));
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { lines: self.clone(), text: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_are_found_by_whole_words_and_are_bounded() {
        let lines = Lines::default();
        for text in
            ["pod default/web is ready\n", "pod default/web-2 failed\n", "id 0123456789abcdef\n"]
        {
            lines.make_writer().write_all(text.as_bytes()).unwrap();
        }
        let about = |word: &str| lines.about(&[word.to_owned()]);
        assert_eq!(about("default/web"), ["pod default/web is ready"]);
        assert_eq!(about("0123456789ab"), ["id 0123456789abcdef"]);
        assert!(about("efault/web").is_empty());
        for number in 0..2 * KEPT {
            lines
                .make_writer()
                .write_all(format!("x {number} {}\n", "ä".repeat(LONGEST)).as_bytes())
                .unwrap();
        }
        assert_eq!(lines.lock().len(), KEPT);
        assert!(lines.lock().iter().all(|line| line.len() <= LONGEST));
        assert_eq!(about("x").len(), TOLD);
        assert!(about("default/web").is_empty(), "the oldest are forgotten");
    }
}
