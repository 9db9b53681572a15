//! The terminal that this program was started in.

use std::io;
use std::os::fd::AsFd;

use cri_streaming::server::Size;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal that gives every key as it is typed. It is as it was before once this is dropped, also when
/// the program panics.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Standard input, if it is a terminal.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing is left to be done when even this fails.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

/// How large the terminal is; nothing where there is none.
pub fn size() -> Option<Size> {
    let of = |fd: &dyn AsFd| tcgetwinsize(fd.as_fd()).ok();
    let (stdout, stdin) = (rustix::stdio::stdout(), rustix::stdio::stdin());
    let size = of(&stdout).or_else(|| of(&stdin))?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(Size { width: size.ws_col, height: size.ws_row })
}
