//! The terminal: a screen of its own, and no line editing, until the value ends.

use std::io::{self, Write as _};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Into the other screen, without a cursor; and back (xterm's control sequences, which every terminal of
/// today knows).
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal while it is ours.
#[derive(Debug)]
pub struct Screen {
    before: Termios,
}

impl Screen {
    /// Takes it.
    pub fn take() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let screen = Self { before };
        io::stdout().lock().write_all(ENTER.as_bytes())?;
        Ok(screen)
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        // A terminal that nobody has told its size says 0: then it is taken for the usual one.
        let told = |cells: u16, usual: usize| if cells == 0 { usual } else { cells.into() };
        let size = tcgetwinsize(io::stdout());
        size.map_or((80, 24), |size| (told(size.ws_col, 80), told(size.ws_row, 24)))
    }

    /// Draws these lines, all at once: over a slow connection nothing flickers.
    pub fn show(&self, lines: &[String]) -> io::Result<()> {
        let mut text = "\x1b[H".to_owned();
        text.push_str(
            &lines.iter().map(|line| format!("{line}\x1b[K")).collect::<Vec<_>>().join("\r\n"),
        );
        text.push_str("\x1b[J");
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing is left to be done where even this fails.
        let _ = io::stdout().lock().write_all(LEAVE.as_bytes());
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}
