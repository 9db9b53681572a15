//! How the demo looks.

use std::io::IsTerminal;
use std::time::Duration;

/// Columns for the names of steps.
const LEFT: usize = 12;

/// Colours, where there is somebody to see them.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// With colours on a terminal, without them elsewhere (and where NO_COLOR says so).
    pub fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: std::io::stdout().is_terminal() && !refused }
    }

    fn in_colour(self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The first line.
    pub fn title(self, text: &str) {
        println!("\n{}\n", self.in_colour("1;36", text));
    }

    /// A step, and what came of it.
    pub fn step(self, name: &str, text: &str) {
        println!("{} {text}", self.in_colour("1;32", &format!("{name:>LEFT$}")));
    }

    /// One more line of a step.
    pub fn more(self, text: &str) {
        println!("{:LEFT$} {text}", "");
    }

    /// What a container said.
    pub fn quote(self, who: &str, text: &str) {
        println!("{:LEFT$} {} {text}", "", self.in_colour("2", &format!("{who} │")));
    }

    /// A bar from `start` that is `length` long, of `columns` that stand for `whole`; what takes any
    /// time at all is seen.
    pub fn bar(self, start: u64, length: u64, whole: u64, columns: usize) -> String {
        let scaled = |value: u64| (value as f64 / whole.max(1) as f64 * columns as f64) as usize;
        let begin = scaled(start).min(columns - 1);
        let size = scaled(length).clamp(1, columns - begin);
        let rest = columns - begin - size;
        let bar = self.in_colour("36", &"█".repeat(size));
        format!("{}{bar}{}", " ".repeat(begin), " ".repeat(rest))
    }

    /// The last line.
    pub fn end(self, took: Duration) {
        let text = format!("all of it in {:.1} s", took.as_secs_f64());
        println!("\n{}\n", self.in_colour("1;36", &text));
    }
}

/// A time in milliseconds.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}
