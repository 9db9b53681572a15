//! So many, and no more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A bounded number of places. One process has at most half of them: whatever it does, the kubelet finds
/// one.
#[derive(Debug)]
pub struct Places {
    what: &'static str,
    all: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_process: HashMap<Option<i32>, usize>,
}

/// There is no place left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many {what} at once: {by} may have {bound}; try again")]
pub struct Full {
    what: &'static str,
    by: &'static str,
    bound: usize,
}

impl Places {
    /// `all` places for `what`, a word in the plural.
    #[must_use]
    pub fn new(what: &'static str, all: usize) -> Arc<Self> {
        Arc::new(Self { what, all, taken: Mutex::default() })
    }

    /// A place for the process, until it is dropped. Never waits.
    ///
    /// # Errors
    /// [`Full`], which says whose bound was met.
    pub fn take(self: &Arc<Self>, process: Option<i32>) -> Result<Place, Full> {
        let mut place = self.none(process);
        place.grow(1)?;
        Ok(place)
    }

    /// No place yet for the process; see [`Place::grow`].
    #[must_use]
    pub fn none(self: &Arc<Self>, process: Option<i32>) -> Place {
        Place { places: Arc::clone(self), process, count: 0 }
    }

    /// How many are taken.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.taken().all
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Whole between any two statements.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Places that are taken.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    process: Option<i32>,
    count: usize,
}

impl Place {
    /// So many more of them, or none of these. Never waits.
    ///
    /// # Errors
    /// [`Full`], which says whose bound was met.
    pub fn grow(&mut self, more: usize) -> Result<(), Full> {
        let full = |by, bound| Full { what: self.places.what, by, bound };
        let all = self.places.all;
        let half = all.div_ceil(2);
        let mut taken = self.places.taken();
        if taken.all.saturating_add(more) > all {
            return Err(full("all clients together", all));
        }
        let own = taken.by_process.get(&self.process).copied().unwrap_or_default();
        if own + more > half {
            return Err(full("one process", half));
        }
        taken.by_process.insert(self.process, own + more);
        taken.all += more;
        self.count += more;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= self.count;
        if let Some(own) = taken.by_process.get_mut(&self.process) {
            *own -= self.count;
            if *own == 0 {
                taken.by_process.remove(&self.process);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_has_half_and_all_together_have_all() {
        let places = Places::new("calls", 4);
        let first: Vec<Place> = (0..2).map(|_| places.take(Some(1)).unwrap()).collect();
        let refused = places.take(Some(1)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "too many calls at once: one process may have 2; try again"
        );
        let second: Vec<Place> = (0..2).map(|_| places.take(Some(2)).unwrap()).collect();
        assert_eq!(places.take(Some(3)).unwrap_err().bound, 4);
        drop(first);
        assert!(places.take(Some(3)).is_ok());
        drop(second);
        assert_eq!(places.in_use(), 0);
        assert!(places.taken().by_process.is_empty(), "nothing is kept of a process that is gone");
    }
}
