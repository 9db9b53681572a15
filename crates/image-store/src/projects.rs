//! Which project ids are taken. Pure: what is on disk is told to it, and it decides.
//!
//! Always: an id that somebody has is given to nobody else; one that was given back comes last again, so
//! that what still lies under it has time to go. After a start the search goes on past the highest one that
//! somebody has, so that this holds for those given back before it, too, as long as later ones are taken.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The ids of one store.
#[derive(Debug)]
pub(crate) struct Projects {
    range: RangeInclusive<u32>,
    /// How many trees have each: more than one only where somebody copied a directory.
    taken: BTreeMap<u32, u32>,
    /// Where the search for a free one goes on.
    next: u32,
}

impl Projects {
    pub fn new(range: RangeInclusive<u32>) -> Self {
        let next = *range.start();
        Self { range, taken: BTreeMap::new(), next }
    }

    /// Whether an id is one of ours: others on the same file system have theirs.
    pub fn has(&self, id: u32) -> bool {
        self.range.contains(&id)
    }

    /// Whether an id is the project of somebody else: the administrator's, who may have a limit for all of us.
    pub fn is_anothers(&self, id: u32) -> bool {
        id != 0 && !self.has(id)
    }

    /// A tree has this id; `false` if another one has it, too.
    pub fn found(&mut self, id: u32) -> bool {
        if id >= self.next && self.has(id) {
            self.next = self.after(id);
        }
        let trees = self.taken.entry(id).or_insert(0);
        *trees += 1;
        *trees == 1
    }

    /// A free id, now taken; `None` where there is none.
    pub fn take(&mut self) -> Option<u32> {
        let (first, last) = (*self.range.start(), *self.range.end());
        let next = self.next;
        let free = |id: &u32| !self.taken.contains_key(id);
        let id = (next..=last).chain(first..next).find(free)?;
        self.taken.insert(id, 1);
        self.next = self.after(id);
        Some(id)
    }

    const fn after(&self, id: u32) -> u32 {
        if id == *self.range.end() { *self.range.start() } else { id + 1 }
    }

    /// Whether no tree but one has this id.
    pub fn is_last(&self, id: u32) -> bool {
        self.taken.get(&id) == Some(&1)
    }

    /// A tree with this id is gone; whether the id is free now.
    pub fn gone(&mut self, id: u32) -> bool {
        let Some(trees) = self.taken.get_mut(&id) else { return false };
        *trees -= 1;
        let is_free = *trees == 0;
        if is_free {
            self.taken.remove(&id);
        }
        is_free
    }

    pub fn range(&self) -> &RangeInclusive<u32> {
        &self.range
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_given_once_and_again_only_after_all_others() {
        let mut projects = Projects::new(10..=12);
        assert!(projects.found(11) && projects.has(11) && !projects.has(13));
        assert_eq!([projects.take(), projects.take()], [Some(12), Some(10)]);
        assert_eq!(projects.take(), None);
        assert!(projects.gone(12) && projects.gone(10));
        assert_eq!([projects.take(), projects.take(), projects.take()], [Some(12), Some(10), None]);
    }

    #[test]
    fn an_id_that_two_trees_have_is_free_after_both() {
        let mut projects = Projects::new(10..=10);
        assert!(projects.found(10) && !projects.found(10));
        assert!(!projects.is_last(10) && !projects.gone(10));
        assert_eq!(projects.take(), None);
        assert!(projects.is_last(10) && projects.gone(10));
        assert!(!projects.is_last(10) && !projects.gone(10));
        assert_eq!(projects.take(), Some(10));
    }

    #[test]
    fn after_a_start_an_id_that_was_given_back_before_comes_last_again() {
        let mut projects = Projects::new(10..=13);
        assert!(projects.found(11));
        assert!(projects.gone(11));
        let order: Vec<_> = std::iter::from_fn(|| projects.take()).collect();
        assert_eq!(order, [12, 13, 10, 11]);
        let mut full = Projects::new(10..=13);
        assert!(full.found(13) && full.gone(13));
        assert_eq!(full.take(), Some(10), "past the last one is the first");
    }

    #[test]
    fn another_s_project_is_one_out_of_the_range_that_is_not_none() {
        let projects = Projects::new(10..=13);
        assert_eq!(
            [0, 5, 10, 13, 14].map(|id| projects.is_anothers(id)),
            [false, true, false, false, true]
        );
    }

    #[test]
    fn the_last_id_that_there_is_can_be_given() {
        let mut projects = Projects::new(u32::MAX..=u32::MAX);
        assert_eq!([projects.take(), projects.take()], [Some(u32::MAX), None]);
    }

    proptest! {
        #[test]
        fn nobody_gets_what_somebody_has(steps in proptest::collection::vec(any::<(bool, u32)>(), 0..200)) {
            let mut projects = Projects::new(100..=107);
            let mut held = BTreeSet::new();
            for (takes, which) in steps {
                if takes {
                    match projects.take() {
                        Some(id) => prop_assert!((100..=107).contains(&id) && held.insert(id)),
                        None => prop_assert_eq!(held.len(), 8),
                    }
                } else {
                    let id = 100 + which % 8;
                    prop_assert_eq!(projects.gone(id), held.remove(&id));
                }
            }
        }
    }
}
