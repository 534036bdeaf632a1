//! Stub until the real one lands.
#![allow(missing_docs)]
use std::path::{Path, PathBuf};
use std::time::Duration;
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(pub u32);
impl Level { pub const INFO: Level = Level(20); }
#[derive(Clone, Debug, Default)]
pub struct DomainFilter;
impl DomainFilter {
    pub fn allows(&self, _: &str) -> bool {
        true
    }
}
#[derive(Clone, Debug)]
pub struct Collection {
    pub enable: bool,
    pub prof_dir: PathBuf,
    pub level: Level,
    pub domains: DomainFilter,
    pub timelimit: Option<Duration>,
}
pub struct Watch {
    path: PathBuf,
    last: String,
    c: Collection,
}
impl Watch {
    pub fn new(path: &Path, home: &Path) -> Self {
        Self {
            path: path.into(),
            last: String::new(),
            c: Collection { enable: false, prof_dir: home.join(".ms_server_profiler"), level: Level(20), domains: DomainFilter, timelimit: None },
        }
    }
    pub fn poll(&mut self) -> Option<&Collection> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        if text == self.last {
            return None;
        }
        let v: serde_json::Value = serde_json::from_str(&text).ok()?;
        self.last = text;
        self.c.enable = v["enable"].as_i64() == Some(1);
        if let Some(d) = v["prof_dir"].as_str() {
            self.c.prof_dir = d.into();
        }
        Some(&self.c)
    }
    pub fn collection(&self) -> &Collection {
        &self.c
    }
}
pub fn rewrite_disabled(_: &Path) -> std::io::Result<()> {
    Ok(())
}
