//! Keys that leave a container without ending it.
//!
//! Always: pure; what was typed and is no part of the keys goes on, in order.

/// Keys, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<u8>);

/// As they are written: `ctrl-p,ctrl-q`, or single characters.
pub fn parse(text: &str) -> Result<Keys, String> {
    let wrong = || format!("{text:?} is not: ctrl-a to ctrl-z or single characters, with commas");
    let key = |key: &str| match key.strip_prefix("ctrl-").unwrap_or(key).as_bytes() {
        [letter @ b'a'..=b'z'] if key.len() > 1 => Some(letter - b'a' + 1),
        [byte] if key.len() == 1 => Some(*byte),
        _ => None,
    };
    let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
    keys.filter(|keys| !keys.is_empty()).map(Keys).ok_or_else(wrong)
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub struct Watch {
    keys: Vec<u8>,
    seen: usize,
}

impl Watch {
    /// Looks for `keys`; for nothing without them.
    pub fn new(keys: Option<&Keys>) -> Self {
        Self { keys: keys.map(|keys| keys.0.clone()).unwrap_or_default(), seen: 0 }
    }

    /// What of `typed` goes on, and whether all keys have been typed; what comes behind them is dropped.
    pub fn push(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (typed.to_vec(), false);
        }
        let mut on = Vec::with_capacity(typed.len() + self.seen);
        for byte in typed {
            if self.keys[self.seen] == *byte {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return (on, true);
                }
                continue;
            }
            // What was held back was no beginning of the keys; this byte may be one.
            on.extend_from_slice(&self.keys[..self.seen]);
            self.seen = usize::from(self.keys[0] == *byte);
            if self.seen == 0 {
                on.push(*byte);
            } else if self.keys.len() == 1 {
                return (on, true);
            }
        }
        (on, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_writes_them() {
        assert_eq!(parse("ctrl-p,ctrl-q"), Ok(Keys(vec![16, 17])));
        assert_eq!(parse("a"), Ok(Keys(vec![b'a'])));
        for bad in ["", "ctrl-", "ctrl-P", "ctrl-ab", "a,,b", "é"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_found_in_pieces_and_nothing_else_is_lost() {
        let keys = parse("ctrl-p,ctrl-q").unwrap();
        for (typed, want, left) in [
            (&[&b"ls\n"[..]][..], &b"ls\n"[..], false),
            (&[b"a\x10", b"\x11b"], b"a", true),
            (&[b"\x10", b"x"], b"\x10x", false),
            (&[b"\x10\x10\x11"], b"\x10", true),
            (&[b"\x11\x10"], b"\x11", false),
        ] {
            let mut watch = Watch::new(Some(&keys));
            let (mut on, mut all) = (Vec::new(), false);
            for typed in typed {
                let (more, is_over) = watch.push(typed);
                on.extend(more);
                all |= is_over;
            }
            assert_eq!((&on[..], all), (want, left), "{typed:?}");
        }
        assert_eq!(Watch::new(None).push(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
