//! Tokens: one use each, for a minute.
//!
//! Owns: the requests that wait for their clients. Always: a token is 256 random bits, is given out
//! once and taken once, and is compared in constant time; nothing prints one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

/// How long a token is good for.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// Requests that may wait for their clients. One more is refused until one is taken or lapses.
pub const MOST_WAITING: usize = 1000;
const BYTES: usize = 32;

/// Too many requests wait for clients that do not come, or the system has no randomness.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// [`MOST_WAITING`] are waiting.
    #[error("{MOST_WAITING} streaming requests wait for their clients already")]
    TooMany,
    /// The system's random numbers.
    #[error("no random bytes for a token: {0}")]
    Random(getrandom::Error),
}

struct Waiting<T> {
    token: [u8; BYTES],
    until: Instant,
    value: T,
}

/// Requests by token.
pub struct Tokens<T> {
    waiting: Mutex<Vec<Waiting<T>>>,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self { waiting: Mutex::new(Vec::new()) }
    }
}

impl<T> std::fmt::Debug for Tokens<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("waiting", &self.lock().len()).finish_non_exhaustive()
    }
}

impl<T> Tokens<T> {
    fn lock(&self) -> MutexGuard<'_, Vec<Waiting<T>>> {
        // The list is whole between any two statements.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `value` for the client that comes with the token that is returned, until `now` + [`LIFETIME`].
    ///
    /// # Errors
    /// [`NoToken`].
    pub fn insert(&self, value: T, now: Instant) -> Result<String, NoToken> {
        let mut token = [0; BYTES];
        getrandom::fill(&mut token).map_err(NoToken::Random)?;
        let mut waiting = self.lock();
        waiting.retain(|w| w.until > now);
        if waiting.len() >= MOST_WAITING {
            return Err(NoToken::TooMany);
        }
        waiting.push(Waiting { token, until: now + LIFETIME, value });
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// Takes what waits for this token; nobody else gets it.
    pub fn take(&self, text: &str, now: Instant) -> Option<T> {
        let given: [u8; BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let mut waiting = self.lock();
        waiting.retain(|w| w.until > now);
        // Every token is compared whole, so time tells nothing about any of them.
        let mut found = None;
        for (index, candidate) in waiting.iter().enumerate() {
            if bool::from(candidate.token.ct_eq(&given)) {
                found = Some(index);
            }
        }
        found.map(|index| waiting.swap_remove(index).value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_serves_once_and_for_a_minute() {
        let tokens = Tokens::default();
        let now = Instant::now();
        let first = tokens.insert(1, now).unwrap();
        let second = tokens.insert(2, now).unwrap();
        assert_ne!(first, second);
        assert_eq!(first.len(), 43, "256 bits in Base64 without padding");
        assert_eq!(tokens.take(&first, now), Some(1));
        assert_eq!(tokens.take(&first, now), None);
        assert_eq!(tokens.take(&second, now + LIFETIME), None);
        for bad in ["", "x", &"A".repeat(43), &"=".repeat(43), "../../etc"] {
            assert_eq!(tokens.take(bad, now), None);
        }
    }

    #[test]
    fn waiting_requests_are_bounded_and_lapse() {
        let tokens = Tokens::default();
        let now = Instant::now();
        for n in 0..MOST_WAITING {
            tokens.insert(n, now).unwrap();
        }
        assert!(matches!(tokens.insert(0, now), Err(NoToken::TooMany)));
        assert!(tokens.insert(0, now + LIFETIME).is_ok());
        assert!(!format!("{tokens:?}").contains("token:"));
    }
}
