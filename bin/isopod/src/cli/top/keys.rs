//! The keyboard, byte by byte.

use std::io::Read as _;

use tokio::sync::mpsc;

use super::table::Sort;

/// Keys that wait to be looked at; nobody types faster.
const AHEAD: usize = 64;

/// What was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Quit,
    Sort(Sort),
    Pods,
    Up,
    Down,
    Other,
}

/// Keys as they are pressed.
#[derive(Debug)]
pub struct Keys(mpsc::Receiver<Key>);

impl Keys {
    /// Reads standard input from now on. The thread ends with the program.
    pub fn read() -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        std::thread::spawn(move || {
            let mut bytes = [0_u8; 16];
            let mut input = std::io::stdin().lock();
            while let Ok(count) = input.read(&mut bytes) {
                // A terminal sends the bytes of one key together.
                if count == 0 || sender.blocking_send(key(&bytes[..count])).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next one; `None` when there will be none.
    pub async fn next(&mut self) -> Option<Key> {
        self.0.recv().await
    }
}

fn key(bytes: &[u8]) -> Key {
    match bytes {
        // Control-C, Control-D, Escape alone.
        b"q" | b"Q" | [3] | [4] | [27] => Key::Quit,
        b"c" => Key::Sort(Sort::Cpu),
        b"m" => Key::Sort(Sort::Memory),
        b"i" => Key::Sort(Sort::Io),
        b"n" => Key::Sort(Sort::Network),
        b"a" => Key::Sort(Sort::Name),
        b"p" | b"\t" => Key::Pods,
        b"k" | b"\x1b[A" | b"\x1bOA" => Key::Up,
        b"j" | b"\x1b[B" | b"\x1bOB" => Key::Down,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_by_their_bytes() {
        for (bytes, want) in [
            (&b"q"[..], Key::Quit),
            (&[3], Key::Quit),
            (b"\x1b[A", Key::Up),
            (b"\x1bOB", Key::Down),
            (b"m", Key::Sort(Sort::Memory)),
            (b"\x1b[5~", Key::Other),
        ] {
            assert_eq!(key(bytes), want, "{bytes:?}");
        }
    }
}
