//! Ids of requests as they are recorded, and what vLLM's engine makes of the API server's.
//!
//! Clients choose them, of any length, and each record of a step has those of all its requests. So long ones are cut, here
//! and nowhere else, and the hash of what was cut keeps them apart. What the engine puts around an id stays: the cut of
//! the engine's id is the cut of the API server's with the same around it.

use std::borrow::Cow;

use twox_hash::XxHash3_128;

/// Where a text was cut.
pub const CUT: char = '…';

/// Bytes of an id, without what an engine puts around it, that are recorded as they are.
const LONGEST: usize = 256;

/// Bytes that stay of a longer one, before the mark and the hash.
const KEPT: usize = 200;

/// Bytes before and behind an id that may be an engine's. Some clients' own ids look so; they are no longer.
const MOST_ADDED: usize = 64;

/// An id as it is recorded.
pub fn shortened(id: &str) -> Cow<'_, str> {
    if id.len() <= LONGEST {
        return id.into();
    }
    let (before, own, behind) = around(id);
    if own.len() <= LONGEST {
        return id.into();
    }
    let start = (0..=KEPT).rev().find_map(|end| own.get(..end)).unwrap_or_default();
    let hash = XxHash3_128::oneshot(own.as_bytes());
    format!("{before}{start}{CUT}{hash:032x}{behind}").into()
}

/// `0_<id>`: the number of an answer, and the id of what has several.
pub fn answer_of(id: &str) -> Option<(&str, &str)> {
    let (index, whole) = id.split_once('_')?;
    (!index.is_empty() && index.bytes().all(|b| b.is_ascii_digit())).then_some((index, whole))
}

/// `<id>-<8 hex digits>`: the id without what the engine adds.
pub fn without_engine_suffix(id: &str) -> Option<&str> {
    let (base, suffix) = id.rsplit_once('-')?;
    is_engine_suffix(suffix).then_some(base)
}

/// Whether it is what the engine adds behind the dash.
pub fn is_engine_suffix(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// An id taken apart: what an engine may have put before it, itself, what an engine may have put behind it. All that
/// looks so, since the API server's id may too.
fn around(id: &str) -> (&str, &str, &str) {
    let mut own = id;
    while let Some((_, rest)) = answer_of(own).filter(|(_, rest)| id.len() - rest.len() <= MOST_ADDED) {
        own = rest;
    }
    let (before, own_and_behind) = id.split_at(id.len() - own.len());
    while let Some(rest) =
        without_engine_suffix(own).filter(|rest| own_and_behind.len() - rest.len() <= MOST_ADDED)
    {
        own = rest;
    }
    let (own, behind) = own_and_behind.split_at(own.len());
    (before, own, behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_differ_only_at_the_end_stay_apart() {
        let [a, b] = ["a", "b"].map(|last| "x".repeat(10_000) + last);
        assert_ne!(shortened(&a), shortened(&b));
        assert_eq!(shortened(&a), shortened(&a.clone()));
        assert!(shortened(&a).starts_with("xxx") && shortened(&a).len() < LONGEST);
    }

    #[test]
    fn what_the_engine_puts_around_an_id_stays_around_the_cut() {
        for length in [1, LONGEST - 10, LONGEST - 1, LONGEST, LONGEST + 1, 10_000] {
            for own in ["x".repeat(length), "é".repeat(length)] {
                for id in [own.clone(), format!("7_{own}"), format!("{own}-deadbeef-0badcafe")] {
                    let cut = shortened(&id);
                    assert_eq!(shortened(&format!("{id}-01234567")), format!("{cut}-01234567"));
                    assert_eq!(shortened(&format!("12_{id}-01234567")), format!("12_{cut}-01234567"));
                }
            }
        }
    }

    #[test]
    fn no_id_is_too_odd_to_be_cut() {
        for id in ["1_".repeat(5_000), "-deadbeef".repeat(1_000), "-".repeat(9_000), "…".repeat(3_000)] {
            let cut = shortened(&id);
            assert!(cut.len() < LONGEST + 2 * MOST_ADDED, "{cut}");
            assert_ne!(cut, shortened(&format!("{id}1_")));
        }
    }
}
