//! `timeline.pftrace`: all processes of the session in one Perfetto trace, with tracks that no process could have
//! recorded: one for each request, counters of each engine, and the times in which it was idle.
//!
//! Captures are joined as they are, packet by packet. Clocks of several hosts, and processes of several containers that have
//! one pid, can't be told apart within one file, so such a session becomes `timeline.tar`: a trace for each machine and a
//! manifest, which Perfetto 58 opens as one.

mod engines;
mod imported;
mod requests;

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::Outcome;
use super::output::{Output, OutputError};
use crate::clock::{Nanos, Snapshot};
use crate::event::Process;
use crate::files::Naming;
use crate::model::Model;
use crate::source::Session;
use crate::trace::Overlay;

/// Overlay bytes that are kept before they are written.
const FLUSH: usize = 1 << 20;

/// Writes the trace into the folder. Gives its name, and how many bytes it has.
///
/// # Errors
/// It can't be written.
pub fn write(
    folder: &Path,
    session: &Session,
    model: &Model,
) -> Result<(&'static str, Outcome), OutputError> {
    let places = session.places();
    let hosts: BTreeSet<&str> = places.processes.iter().map(Process::machine).collect();
    let name = if hosts.len() > 1 { "timeline.tar" } else { "timeline.pftrace" };
    let path = folder.join(name);
    let mut output = Output::create(&path)?;
    let written = if hosts.len() > 1 {
        archive(&mut output, &hosts, session, model)
    } else {
        let clocks = clocks(session, hosts.first().copied());
        let mut out = Counted(&mut output, 0);
        host(&mut out, None, clocks, session)
            .and_then(|()| overlay(&mut out, clocks, session, model))
            .map(|()| out.1)
    };
    let bytes = written.map_err(|error| output.error(error))?;
    if bytes == 0 {
        output.discard()?;
        return Ok((name, Outcome::Nothing("the session is empty")));
    }
    output.finish()?;
    Ok((name, Outcome::Bytes(bytes)))
}

/// The clocks of a host; where no capture states them, unix time is taken for the time since boot.
fn clocks(session: &Session, host: Option<&str>) -> Snapshot {
    let stated = host.and_then(|host| session.captures()?.clocks(host));
    stated.unwrap_or_else(|| {
        let time = session.first_time().unwrap_or(Nanos(0));
        Snapshot { boot: time, monotonic: time, real: time }
    })
}

/// What was recorded on a host, or on all.
fn host(out: &mut impl Write, host: Option<&str>, clocks: Snapshot, session: &Session) -> io::Result<()> {
    let of_host = |of: &str| host.is_none_or(|host| host == of);
    if let Some(captures) = session.captures() {
        let parts = captures.packets().filter(|(host, _)| of_host(host)).flat_map(|(_, parts)| parts);
        for (part, range) in parts {
            part.copy(range, out)?;
        }
    }
    imported::write(out, &of_host, clocks, session)
}

/// What follows from the tables.
fn overlay(out: &mut impl Write, clocks: Snapshot, session: &Session, model: &Model) -> io::Result<()> {
    let mut overlay = Overlay::new(clocks);
    let mut flush = |overlay: &mut Overlay| {
        if overlay.pending().len() >= FLUSH {
            out.write_all(overlay.pending())?;
            overlay.written();
        }
        Ok(())
    };
    engines::write(&mut overlay, session.places(), model, &mut flush)?;
    requests::write(&mut overlay, model, &mut flush)?;
    out.write_all(overlay.pending())
}

/// A trace for each host, one for the tracks of all, and the manifest.
fn archive(output: &mut Output, hosts: &BTreeSet<&str>, session: &Session, model: &Model) -> io::Result<u64> {
    let mut out = Counted(output, 0);
    let mut archive = tar::Builder::new(&mut out);
    let mut files = Vec::new();
    let mut add = |name: &str, machine: Option<&str>, write: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
        // A header comes before its file, and says how long that is.
        let mut file = io::BufWriter::new(tempfile::tempfile()?);
        write(&mut file)?;
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        append(&mut archive, name, length, &mut file)?;
        files.push(match machine {
            Some(machine) => serde_json::json!({"path": name, "machine": {"name": machine}}),
            None => serde_json::json!({"path": name}),
        });
        Ok::<_, io::Error>(())
    };
    let mut naming = Naming::default();
    let requests = naming.name("requests"); // before a host of that name
    for name in hosts {
        let clocks = clocks(session, Some(name));
        let shown = if name.is_empty() { "unknown" } else { name };
        let file = format!("{}.pftrace", naming.name(shown));
        add(&file, Some(shown), &|mut out| host(&mut out, Some(name), clocks, session))?;
    }
    let time = session.first_time().unwrap_or(Nanos(0));
    let unix = Snapshot { boot: time, monotonic: time, real: time };
    add(&format!("{requests}.pftrace"), None, &|mut out| overlay(&mut out, unix, session, model))?;
    let manifest = serde_json::json!({"perfetto_manifest": {"version": 1, "files": files}}).to_string();
    append(&mut archive, "perfetto_manifest.json", manifest.len() as u64, &mut manifest.as_bytes())?;
    archive.finish()?;
    drop(archive);
    Ok(out.1)
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    length: u64,
    content: &mut impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o640);
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, name, content)
}

/// Counts the bytes that go through.
struct Counted<'a>(&'a mut Output, u64);

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.1 += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
