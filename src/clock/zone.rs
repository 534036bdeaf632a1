//! The local time zone, without the names of all the others.

use std::fs;
use std::path::{Component, Path, PathBuf};

use jiff::tz::TimeZone;

/// The zone that the system is set to.
const LOCAL: &str = "/etc/localtime";

/// Where the system keeps the zones that have a name.
const NAMED: &str = "/usr/share/zoneinfo";

/// The time zone of a process whose environment says `variable` for `TZ`.
///
/// [`TimeZone::system`] gives the same, but reads the whole folder of zones first: hundreds of system calls and as many
/// pages of memory as all else that a recorder does at its start.
pub fn time_zone(variable: Option<&str>) -> TimeZone {
    file_of(variable).and_then(|file| read(&file)).unwrap_or_else(TimeZone::system)
}

/// The file that holds the zone; none for what is no name, as `EST5EDT,M3.2.0,M11.1.0`.
fn file_of(variable: Option<&str>) -> Option<PathBuf> {
    let Some(variable) = variable else { return Some(LOCAL.into()) };
    let name = Path::new(variable.strip_prefix(':').unwrap_or(variable));
    let is_name = name.components().all(|part| matches!(part, Component::Normal(_)));
    (is_name && !variable.is_empty()).then(|| Path::new(NAMED).join(name))
}

fn read(file: &Path) -> Option<TimeZone> {
    // Anything but a file could make this wait.
    fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    TimeZone::tzif("", &fs::read(file).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_zone_is_the_one_that_the_system_gives() {
        let (winter, summer): (Timestamp, Timestamp) =
            ("2026-01-15T12:00:00Z".parse().unwrap(), "2026-07-15T12:00:00Z".parse().unwrap());
        let variable = std::env::var("TZ").ok();
        let mut pairs = vec![(time_zone(variable.as_deref()), TimeZone::system())];
        for name in ["Europe/Berlin", "Asia/Shanghai", "UTC"] {
            // A system may have no zones.
            pairs.extend(TimeZone::get(name).ok().map(|zone| (time_zone(Some(name)), zone)));
        }
        for (ours, theirs) in pairs {
            for time in [winter, summer] {
                assert_eq!(ours.to_offset(time), theirs.to_offset(time), "{theirs:?}");
            }
        }
    }

    #[test]
    fn only_a_name_is_looked_for_among_the_files() {
        assert_eq!(file_of(None), Some(LOCAL.into()));
        assert_eq!(file_of(Some(":Asia/Tokyo")), Some(Path::new(NAMED).join("Asia/Tokyo")));
        for other in ["", "/tmp/zone", "../../tmp/zone", ":/tmp/zone"] {
            assert_eq!(file_of(Some(other)), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_no_zone_leaves_the_systems() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text");
        fs::write(&text, "no zone").unwrap();
        for file in [text, folder.path().into(), folder.path().join("nothing")] {
            assert!(read(&file).is_none(), "{}", file.display());
        }
    }
}
