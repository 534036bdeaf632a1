//! What the files of a capture are called: `<host>-<pid>-<identity>`, the same for the capture, its rings and the names for
//! them. A capture's identity is a random number: host and pid come again, in a restarted container, in one beside it,
//! after an `exec`. And how a flight recorder's dumps are told from sessions, by the names of their folders.
//!
//! Earlier versions had `<host>-<pid>`.

use std::hash::{BuildHasher, RandomState};

/// What tells a capture from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureId(pub u64);

impl CaptureId {
    /// A new one, never 0: that stands for files that have none.
    pub fn random() -> Self {
        let seed = (std::process::id(), std::time::SystemTime::now());
        // The keys are the system's random numbers, but for a fork the parent's: there the rest differs.
        Self(RandomState::new().hash_one(seed).max(1))
    }

    /// The stem of its files.
    pub fn stem(self, host: &str, pid: u32) -> String {
        format!("{host}-{pid}-{:08x}", self.0 as u32)
    }
}

/// The process id in a stem.
pub fn pid(stem: &str) -> Option<u32> {
    let (rest, last) = stem.rsplit_once('-')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let before = rest.rsplit_once('-').and_then(|(_, pid)| number(pid));
    // No pid has eight digits.
    if is_identity(last) && before.is_some() { before } else { number(last) }
}

/// `node-1.local-77-0123abcd.2` is part 2 of `node-1.local-77-0123abcd`; what has no number is part 0.
pub fn split_part(name: &str) -> (&str, u32) {
    let part = name.rsplit_once('.').filter(|(stem, _)| pid(stem).is_some());
    part.and_then(|(stem, part)| Some((stem, part.parse().ok()?))).unwrap_or((name, 0))
}

/// Whether a stem has an identity: those of earlier versions have none.
pub fn has_identity(stem: &str) -> bool {
    stem.rsplit_once('-').is_some_and(|(rest, last)| is_identity(last) && pid(rest).is_some())
}

fn is_identity(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Stands between a session's name and a dump's number in the name of the dump's folder.
pub const DUMP_MARK: &str = "-dump-";

/// Whether a folder of this name has what flight recorders remembered at some time.
pub fn is_dump(folder: &str) -> bool {
    let number = folder.rsplit_once(DUMP_MARK).map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stem_says_its_pid_and_never_comes_again() {
        let [first, second] = [(); 2].map(|()| CaptureId::random().stem("node-1.a", 77));
        assert_ne!(first, second);
        assert!(first.starts_with("node-1.a-77-") && first.len() == "node-1.a-77-".len() + 8, "{first}");
        assert_eq!((pid(&first), pid(&second)), (Some(77), Some(77)));
    }

    #[test]
    fn older_stems_and_other_names_are_told_apart() {
        for (stem, expected) in [
            ("host-12", Some(12)),
            ("host-12-00c0ffee", Some(12)),
            ("host-12-12345678", Some(12)),
            ("a-b.c-7", Some(7)),
            ("a-12345-7", Some(7)),
            ("host-00c0ffee-7", Some(7)),
            ("host-00c0ffee", None),
            ("host-12-old", None),
            ("host-", None),
            ("host", None),
        ] {
            assert_eq!(pid(stem), expected, "{stem}");
        }
        assert!(
            has_identity("host-12-00c0ffee") && !has_identity("host-12") && !has_identity("host-00c0ffee")
        );
    }

    #[test]
    fn a_part_number_is_told_from_a_hosts_name() {
        for (name, expected) in [
            ("host-12", ("host-12", 0)),
            ("host-12.1", ("host-12", 1)),
            ("host-12-00c0ffee.10", ("host-12-00c0ffee", 10)),
            ("10.0.0.1-12-00c0ffee", ("10.0.0.1-12-00c0ffee", 0)),
            ("10.0.0.1-12.3", ("10.0.0.1-12", 3)),
            ("joined", ("joined", 0)),
            ("v1.2", ("v1.2", 0)),
            ("host-12.old", ("host-12.old", 0)),
        ] {
            assert_eq!(split_part(name), expected);
        }
    }
}
