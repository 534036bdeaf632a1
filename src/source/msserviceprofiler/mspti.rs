//! `ascend_service_profiler_*.db`: calls of the Ascend runtime (`Api`), kernels, and communication, as MSPTI told them.

use std::path::Path;

use rusqlite::Connection;

use super::super::imports::{Damaged, Imports};
use super::{columns_by_table, each_row, number, open, stem, text};
use crate::clock::Nanos;
use crate::event::{Attributes, Kind, Label, Name, Process, Record};

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

/// Reads one database. The pid is the file name's.
pub(in super::super) fn read(file: &Path, imports: &mut Imports) -> Vec<Damaged> {
    let mut damage = Vec::new();
    let mut read = || -> rusqlite::Result<Vec<String>> {
        let connection = open(file)?;
        let known = columns_by_table(&connection)?;
        let mut damage = Vec::new();
        for (table, row, columns) in TABLES {
            if known.iter().any(|(name, _)| name == table) {
                damage.extend(read_table(&connection, file, table, row, columns, imports)?);
            }
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
    connection: &Connection,
    file: &Path,
    table: &str,
    row: &str,
    columns: &[&str],
    imports: &mut Imports,
) -> rusqlite::Result<Option<String>> {
    let capture = stem(file);
    let pid = capture.rsplit_once('-').and_then(|(_, pid)| pid.parse().ok()).unwrap_or_default();
    let process = imports.process(Process { pid, capture, ..Process::default() });
    let names: Vec<Name> = columns.iter().map(|column| Name::new(column)).collect();
    let list = columns.iter().flat_map(|column| [", ", column]).collect::<String>();
    each_row(connection, table, "rowid", &format!("rowid, start, \"end\", name, {row}{list}"), |found| {
        let mut record = Record::instant(Label::new(table, &text(found, 3)), Nanos(number(found, 1)));
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
