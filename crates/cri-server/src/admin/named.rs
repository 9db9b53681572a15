//! Which of several objects a name means.
//!
//! Always: pure; of two with one name the one that lives is meant, then the later attempt, then the newer of two
//! whose names are the same in full. Others are several meanings, and none of them is taken.

/// Candidates that a refusal lists.
const LISTED: usize = 10;

/// Something that has names.
#[derive(Debug)]
pub(super) struct Named {
    /// What tells it from others, for people.
    pub(super) id: String,
    /// The names that it answers to, the one that tells most first.
    pub(super) names: Vec<String>,
    /// Of two with one name, the one with more of this is meant.
    pub(super) rank: (u8, u32),
    /// When it was made.
    pub(super) made: i64,
}

/// Where in `all` the one is that `name` means; `None` where nothing is called so.
///
/// # Errors
/// A sentence with the candidates where it could be any of several.
pub(super) fn chosen(name: &str, all: &[Named]) -> Result<Option<usize>, String> {
    let called = |one: &Named| one.names.iter().any(|own| own == name);
    let best = all.iter().filter(|one| called(one)).map(|one| one.rank).max();
    let Some(best) = best else { return Ok(None) };
    let mut meant: Vec<(usize, &Named)> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        if called(one) && one.rank == best {
            meant.push((at, one));
        }
    }
    let full = |(_, one): &(usize, &Named)| one.names.first().cloned();
    if meant.iter().all(|one| full(one) == meant.first().and_then(full)) {
        return Ok(meant.iter().max_by_key(|(_, one)| one.made).map(|(at, _)| *at));
    }
    let shown = |(_, one): &(usize, &Named)| {
        format!("{} ({})", one.names.first().map_or("", String::as_str), one.id)
    };
    let mut candidates: Vec<String> = meant.iter().map(shown).collect();
    candidates.sort();
    let more = candidates.len().saturating_sub(LISTED);
    candidates.truncate(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(format!("{name:?} could be any of these: {}{more}", candidates.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(id: &str, names: &[&str], rank: (u8, u32)) -> Named {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Named { id: id.to_owned(), names, rank, made: id.parse().unwrap() }
    }

    #[test]
    fn a_name_means_the_one_that_lives_and_two_that_do_are_refused_with_their_pods() {
        let mut all = vec![
            named("1511", &["d/h1/c1", "h1/c1", "c1"], (2, 0)),
            named("2642", &["d/b1/c1", "b1/c1", "c1"], (2, 0)),
            named("3333", &["d/b1/old", "old"], (0, 4)),
            named("4444", &["d/b1/old", "old"], (2, 0)),
        ];
        assert_eq!(chosen("old", &all), Ok(Some(3)));
        all.push(named("4443", &["d/b1/old", "old"], (2, 0)));
        assert_eq!(chosen("d/b1/old", &all), Ok(Some(3)), "the newer of one name");
        assert_eq!(chosen("b1/c1", &all), Ok(Some(1)));
        assert_eq!(chosen("nobody", &all), Ok(None));
        let refused = chosen("c1", &all).unwrap_err();
        assert_eq!(refused, "\"c1\" could be any of these: d/b1/c1 (2642), d/h1/c1 (1511)");
        all.extend((0..20).map(|_| named("5555", &["x/y/c1", "c1"], (2, 0))));
        assert!(chosen("c1", &all).unwrap_err().ends_with(" and 12 more"));
    }
}
