//! `ascend_service_profiler_*.db`: calls of the Ascend runtime (`Api`), kernels, communication, and the marks of
//! programs (`Mstx`), as MSPTI told them.

use std::collections::HashMap;
use std::path::Path;

use super::super::imports::{Damaged, Imports};
use super::{columns_by_table, each_row, number, open, stem, text};
use crate::clock::Nanos;
use crate::database::Database;
use crate::event::{Attributes, Kind, Name, Process, ProcessId, Record};

/// Each table with the columns that say more than name and times, and the one that its rows are told apart by.
const TABLES: [(&str, &str, &[&str]); 3] = [
    ("Api", "threadId", &["correlationId"]),
    ("Kernel", "streamId", &["type", "deviceId", "streamId", "correlationId"]),
    (
        "Communication",
        "streamId",
        &["deviceId", "streamId", "dataCount", "dataType", "commGroupName", "correlationId"],
    ),
];

/// Bits of a mark's `event_type`: it begins a range; the second bit is for marks that a device has seen too.
/// Source: `msptiActivityFlag` in MSPTI's reference.
const BEGINS: u64 = 1 << 1 | 1 << 4;

/// It ends one.
const ENDS: u64 = 1 << 2 | 1 << 5;

/// Reads one database. The pid is the file name's.
pub(in super::super) fn read(file: &Path, imports: &mut Imports) -> Vec<Damaged> {
    let mut damage = Vec::new();
    let mut read = || -> rusqlite::Result<Vec<String>> {
        let database = open(file)?;
        let known = columns_by_table(&database)?;
        let mut damage = Vec::new();
        for (table, row, columns) in TABLES {
            if known.iter().any(|(name, _)| name == table) {
                damage.extend(read_table(&database, file, table, row, columns, imports)?);
            }
        }
        if known.iter().any(|(name, _)| name == "Mstx") {
            damage.extend(read_marks(&database, file, imports)?);
        }
        Ok(damage)
    };
    match read() {
        Ok(reasons) => damage.extend(reasons.into_iter().map(|reason| Damaged::new(file, reason))),
        Err(error) => damage.push(Damaged::new(file, error)),
    }
    damage
}

fn read_table(
    database: &Database,
    file: &Path,
    table: &str,
    row: &str,
    columns: &[&str],
    imports: &mut Imports,
) -> rusqlite::Result<Option<String>> {
    let process = process(file, imports);
    let names: Vec<Name> = columns.iter().map(|column| Name::new(column)).collect();
    let list = columns.iter().flat_map(|column| [", ", column]).collect::<String>();
    each_row(database, table, "rowid", &format!("rowid, start, \"end\", name, {row}{list}"), |found| {
        let mut record = Record::instant(imports.label(table, &text(found, 3)), Nanos(number(found, 1)));
        (record.kind, record.end) = (Kind::Span, Nanos(number(found, 2).max(record.start.0)));
        let mut attributes = Attributes::default();
        for (position, name) in names.iter().enumerate() {
            match found.get_ref(5 + position)? {
                rusqlite::types::ValueRef::Integer(number) => attributes.key(*name).int(number),
                rusqlite::types::ValueRef::Real(number) => attributes.key(*name).double(number),
                rusqlite::types::ValueRef::Null => {}
                _ => attributes.key(*name).str(&text(found, 5 + position)),
            }
        }
        record.attributes = attributes.into_bytes();
        record.process = process;
        record.thread = imports.thread(process, number(found, 4) as u32, table);
        imports.push(&record);
        Ok(())
    })
}

/// Marks: instants, and ranges of which each end is a row. A host's and a device's view of one range have one number
/// and differ in what stands in `domain`.
fn read_marks(database: &Database, file: &Path, imports: &mut Imports) -> rusqlite::Result<Option<String>> {
    let process = process(file, imports);
    let (mark_id, device) = (Name::new("mark_id"), "1");
    let mut open: HashMap<(u64, String), Record> = HashMap::new();
    let mut last = Nanos(0);
    let columns = "rowid, timestamp, event_type, mark_id, domain, message, tid";
    let damage = each_row(database, "Mstx", "rowid", columns, |found| {
        let (time, number_of_mark, source) = (Nanos(number(found, 1)), number(found, 3), text(found, 4));
        last = last.max(time);
        let event_type: u64 = text(found, 2).parse().unwrap_or_default();
        if event_type & ENDS != 0 {
            if let Some(mut record) = open.remove(&(number_of_mark, source)) {
                (record.kind, record.end) = (Kind::Span, time.max(record.start));
                imports.push(&record);
            }
            return Ok(());
        }
        let mut record = Record::instant(imports.label("Mstx", &text(found, 5)), time);
        let mut attributes = Attributes::default();
        attributes.key(mark_id).int(number_of_mark as i64);
        record.attributes = attributes.into_bytes();
        record.process = process;
        let row = if source == device { "Mstx device" } else { "Mstx" };
        record.thread = imports.thread(process, number(found, 6) as u32, row);
        if event_type & BEGINS != 0 {
            open.insert((number_of_mark, source), record);
        } else {
            imports.push(&record);
        }
        Ok(())
    })?;
    let mut left: Vec<Record> = open.into_values().collect();
    left.sort_by_key(|record| record.start);
    for mut record in left {
        (record.kind, record.end) = (Kind::Unfinished, last);
        imports.push(&record);
    }
    Ok(damage)
}

fn process(file: &Path, imports: &mut Imports) -> ProcessId {
    let capture = stem(file);
    let pid = capture.rsplit_once('-').and_then(|(_, pid)| pid.parse().ok()).unwrap_or_default();
    imports.process(Process { pid, capture, ..Process::default() })
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::event::Places;

    #[test]
    fn marks_are_put_together_from_their_ends() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ascend_service_profiler_node-9.db");
        let connection = Connection::open(&file).unwrap();
        let rows = "(9, 7, '2', 100, 1, '0', 'range'), (-1, -1, '16', 130, 2, '1', 'both'), (9, 7, '16', 120, 2, '0', 'both'),
            (9, 7, '1', 140, 3, '0', 'mark'), (9, 7, '4', 150, 1, '0', 'range'), (-1, -1, '32', 170, 2, '1', 'both'),
            (9, 7, '32', 160, 2, '0', 'both'), (9, 7, '2', 165, 4, '0', 'open'), (9, 7, '4', 166, 99, '0', 'unknown')";
        connection
            .execute_batch(&format!(
                "CREATE TABLE Mstx (pid INTEGER, tid INTEGER, event_type TEXT, timestamp INTEGER,
                    mark_id INTEGER, domain TEXT, message TEXT);
                INSERT INTO Mstx VALUES {rows};"
            ))
            .unwrap();
        drop(connection);
        let mut imports = Imports::new(Places::default());
        assert_eq!(read(&file, &mut imports), []);
        let records = std::mem::take(&mut imports.records).finish().unwrap();
        let seen: Vec<_> = records
            .iter()
            .map(|record| {
                let row = imports.places.thread(record.thread).name.clone();
                (record.name().to_owned(), record.kind, record.start.0, record.end.0, row)
            })
            .collect();
        let expected = [
            ("mark", Kind::Instant, 140, 140, "Mstx"),
            ("range", Kind::Span, 100, 150, "Mstx"),
            ("both", Kind::Span, 120, 160, "Mstx"),
            ("both", Kind::Span, 130, 170, "Mstx device"),
            ("open", Kind::Unfinished, 165, 170, "Mstx"),
        ];
        assert_eq!(
            seen,
            expected.map(|(name, kind, start, end, row)| (name.to_owned(), kind, start, end, row.to_owned()))
        );
        assert_eq!(imports.places.processes[0].pid, 9);
    }
}
