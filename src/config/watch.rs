//! Follows the config file: the recorder polls every 100 ms, and a poll that finds nothing new costs one `stat`.

use std::path::{Path, PathBuf};

use super::{Collection, ConfigError, Stamp, Warning, create_default};
use crate::files;

/// A config file that is followed. It has no thread and no clock of its own.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    home: PathBuf,
    /// What the last poll found, `None` before the first.
    seen: Option<Found>,
    /// `None` before the first reading.
    current: Option<Collection>,
    off: Collection,
    /// Those that were told last, so that switching on and off does not repeat them.
    warnings: Vec<Warning>,
}

/// What a poll found at the path.
#[derive(Debug, PartialEq)]
struct Found {
    /// `None`: no file.
    stamp: Option<Stamp>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// In effect.
    Read,
    /// It could not be used: perhaps somebody is just writing it. The next poll decides.
    Doubtful,
    /// It could still not be used, and the user has been told.
    Bad,
}

impl Watch {
    /// Follows the file at `path`; makes it with defaults if it is missing, and logs an error where that can't be.
    /// `home` is the user's home folder, for the default `prof_dir`; where there is none (it is no absolute path), the
    /// config's folder stands for it. The first [`Watch::poll`] reads it.
    pub fn new(path: &Path, home: &Path) -> Self {
        let home = if home.is_absolute() { home } else { path.parent().unwrap_or(path) };
        if let Err(error) = create_default(path, home) {
            log::error!("{error}");
        }
        let off = Collection::off(home);
        Self { path: path.into(), home: home.into(), seen: None, current: None, off, warnings: Vec::new() }
    }

    /// What the file says now, if that is not what the last poll gave. The first poll that can read the file gives
    /// what it says.
    ///
    /// A file that is missing or does not parse changes nothing at first; if the next poll finds the same, an error
    /// is logged once and collection counts as off until the file is in order.
    pub fn poll(&mut self) -> Option<&Collection> {
        // The stamp comes before the text: what is written in between shows at the next poll.
        let stamp = Stamp::of(&self.path);
        let same = self.seen.as_ref().filter(|seen| seen.stamp == stamp).map(|seen| seen.state);
        if matches!(same, Some(State::Read | State::Bad)) {
            return None;
        }
        let (state, next) = match self.read() {
            Ok((collection, warnings)) => {
                self.tell(warnings);
                (State::Read, collection)
            }
            Err(_) if same.is_none() => {
                self.seen = Some(Found { stamp, state: State::Doubtful });
                return None;
            }
            Err(error) => {
                log::error!("{error}");
                (State::Bad, self.off.clone())
            }
        };
        self.seen = Some(Found { stamp, state });
        if self.current.as_ref() == Some(&next) {
            return None;
        }
        Some(self.current.insert(next))
    }

    /// To be called when nothing is followed any more: a file that could not be used when it was last looked at has had
    /// no second look, and what is wrong with it has not been told.
    pub fn conclude(&mut self) {
        if self.seen.as_ref().is_some_and(|seen| seen.state == State::Doubtful)
            && let Err(error) = self.read()
        {
            log::error!("{error}");
        }
    }

    /// Whether the file switches collection on, as the first poll will find if nobody changes it meanwhile.
    pub fn switches_on(&self) -> bool {
        self.read().is_ok_and(|(collection, _)| collection.enable)
    }

    /// What is in effect: what the last usable reading said; off before the first.
    pub fn collection(&self) -> &Collection {
        self.current.as_ref().unwrap_or(&self.off)
    }

    fn read(&self) -> Result<(Collection, Vec<Warning>), ConfigError> {
        let read = files::read_text(&self.path, files::CONFIG_LIMIT);
        let text =
            read.map_err(|source| ConfigError::Io { path: self.path.clone(), action: "read", source })?;
        Collection::parse(&text, &self.path, &self.home)
    }

    fn tell(&mut self, warnings: Vec<Warning>) {
        if self.warnings != warnings {
            for warning in &warnings {
                log::warn!("{warning}");
            }
            self.warnings = warnings;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("c.json")
        }

        fn watch(&self) -> Watch {
            Watch::new(&self.path(), Path::new("/home/u"))
        }

        fn write(&self, text: &str) {
            fs::write(self.path(), text).unwrap();
        }

        /// As `sed -i` does: a new file takes the old one's name.
        fn replace(&self, text: &str) {
            let other = self.0.path().join("sed1a2b3c");
            fs::write(&other, text).unwrap();
            fs::rename(other, self.path()).unwrap();
        }
    }

    /// What a poll says of `enable`, if it says anything.
    fn enable(watch: &mut Watch) -> Option<bool> {
        watch.poll().map(|collection| collection.enable)
    }

    #[test]
    fn without_a_home_captures_go_beside_the_config() {
        let folder = Folder::new();
        for (home, prof_dir) in [("~", ".ms_server_profiler/"), ("", ".ms_server_profiler/")] {
            let mut watch = Watch::new(&folder.path(), Path::new(home));
            watch.poll();
            assert_eq!(watch.collection().prof_dir, folder.0.path().join(prof_dir));
        }
        folder.write("{\"prof_dir\": \"~/a\"}");
        let mut watch = Watch::new(&folder.path(), Path::new("~"));
        watch.poll();
        assert_eq!(watch.collection().prof_dir, folder.0.path().join("a"));
    }

    #[test]
    fn a_missing_file_is_made_and_its_first_poll_says_off() {
        let folder = Folder::new();
        let mut watch = folder.watch();
        assert!(folder.path().exists());
        assert_eq!(enable(&mut watch), Some(false));
        assert_eq!(enable(&mut watch), None);
    }

    #[test]
    fn whether_it_is_on_can_be_asked_before_the_first_poll() {
        let folder = Folder::new();
        for (text, is_on) in [("{\"enable\": 1}", true), ("{\"enable\": 0}", false), ("{\"ena", false)] {
            folder.write(text);
            assert_eq!(folder.watch().switches_on(), is_on, "{text}");
        }
        let mut watch = folder.watch();
        folder.write("{\"enable\": 1}");
        assert!(watch.switches_on());
        assert_eq!(enable(&mut watch), Some(true), "the first poll says it all the same");
        fs::remove_file(folder.path()).unwrap();
        assert!(!watch.switches_on());
        fs::create_dir(folder.path()).unwrap();
        assert!(!watch.switches_on());
    }

    #[test]
    fn every_switch_by_a_new_inode_of_the_same_size_is_seen() {
        let folder = Folder::new();
        folder.write("{\"enable\": 0}");
        let mut watch = folder.watch();
        assert_eq!(enable(&mut watch), Some(false));
        for _ in 0..20 {
            folder.replace("{\"enable\": 1}");
            assert_eq!(enable(&mut watch), Some(true));
            assert_eq!(enable(&mut watch), None);
            folder.replace("{\"enable\": 0}");
            assert_eq!(enable(&mut watch), Some(false));
        }
    }

    #[test]
    fn a_change_in_place_is_seen() {
        let folder = Folder::new();
        folder.write("{\"enable\": 0}");
        let mut watch = folder.watch();
        watch.poll();
        folder.write("{\"enable\": 1, \"timelimit\": 3}");
        assert_eq!(enable(&mut watch), Some(true));
        assert_eq!(watch.collection().timelimit, Some(std::time::Duration::from_secs(3)));
    }

    #[test]
    fn a_touch_or_a_reordering_is_no_change() {
        let folder = Folder::new();
        folder.write("{\"enable\": 1, \"timelimit\": 0}");
        let mut watch = folder.watch();
        assert_eq!(enable(&mut watch), Some(true));
        folder.replace("{\"timelimit\": 0, \"enable\": 1}");
        assert_eq!(enable(&mut watch), None);
    }

    #[test]
    fn a_file_that_is_being_written_keeps_what_was_in_effect() {
        let folder = Folder::new();
        folder.write("{\"enable\": 1}");
        let mut watch = folder.watch();
        watch.poll();
        for halfway in ["", "{\"ena", "{\"enable\": 0, "] {
            folder.replace(halfway);
            assert_eq!(enable(&mut watch), None, "{halfway:?}");
            assert!(watch.collection().enable);
        }
        folder.replace("{\"enable\": 0}");
        assert_eq!(enable(&mut watch), Some(false));
    }

    #[test]
    fn a_file_that_stays_broken_switches_off_until_it_is_in_order() {
        let folder = Folder::new();
        folder.write("{\"enable\": 1}");
        let mut watch = folder.watch();
        watch.poll();
        folder.replace("{\"enable\": 1,}");
        assert_eq!(enable(&mut watch), None);
        assert_eq!(enable(&mut watch), Some(false));
        assert_eq!(enable(&mut watch), None, "told once");
        folder.replace("{\"enable\": 1}");
        assert_eq!(enable(&mut watch), Some(true));
    }

    #[test]
    fn a_file_that_is_gone_for_one_poll_changes_nothing() {
        let folder = Folder::new();
        folder.write("{\"enable\": 1}");
        let mut watch = folder.watch();
        watch.poll();
        fs::remove_file(folder.path()).unwrap();
        assert_eq!(enable(&mut watch), None);
        folder.write("{\"enable\": 1}");
        assert_eq!(enable(&mut watch), None);
        fs::remove_file(folder.path()).unwrap();
        assert_eq!(enable(&mut watch), None);
        assert_eq!(enable(&mut watch), Some(false), "gone for good");
        assert_eq!(enable(&mut watch), None);
        folder.write("{\"enable\": 1}");
        assert_eq!(enable(&mut watch), Some(true));
    }

    #[test]
    fn bytes_that_are_no_text_are_like_any_broken_file() {
        let folder = Folder::new();
        fs::write(folder.path(), [0xff, 0xfe, 0x00]).unwrap();
        let mut watch = folder.watch();
        assert_eq!(enable(&mut watch), None);
        assert_eq!(enable(&mut watch), Some(false));
        assert!(!watch.collection().enable);
    }
}
