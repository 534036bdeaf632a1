//! `tables/`: the records and the model's tables as Parquet files, typed, for DuckDB, Polars and Spark. Tables that grow
//! with events lie in folders `host=…/pid=…`, as those tools expect; the tables of several sessions can be put together.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use rustc_hash::FxHashMap;

use super::json;
use super::output::OutputError;
use crate::event::{Kind, Places, ProcessId};
use crate::files;
use crate::model::{Ids, Model, Phase, Request, Resources};
use crate::source::Session;

/// Rows of a file that are written at once.
const ROWS: usize = 32 << 10;

/// Where a table has many files, rows that may wait in all of them, unless that leaves a file fewer than [`FEWEST`].
const ROWS_OF_ALL: usize = 8 * ROWS;
const FEWEST: usize = 1 << 10;

/// What a column holds. Every value may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Int,
    Double,
    Text,
}

use Holds::{Double, Int, Text};

type Columns = &'static [(&'static str, Holds)];

const RECORDS: Columns = &[
    ("start_ns", Int),
    ("end_ns", Int),
    ("duration_ns", Int),
    ("kind", Text),
    ("domain", Text),
    ("name", Text),
    ("tid", Int),
    ("lane", Int),
    ("value", Double),
    ("rids", Text),
    ("attributes", Text),
];

const REQUESTS: Columns = &[
    ("rid", Text),
    ("host", Text),
    ("pid", Int),
    ("arrival_ns", Int),
    ("first_output_ns", Int),
    ("end_ns", Int),
    ("first_token_ns", Int),
    ("latency_ns", Int),
    ("queue_ns", Int),
    ("prefill_ns", Int),
    ("decode_ns", Int),
    ("host_ns", Int),
    ("network_ns", Int),
    ("prompt_tokens", Int),
    ("output_tokens", Int),
    ("cache_hit", Double),
];

const BATCHES: Columns = &[
    ("batch", Int),
    ("name", Text),
    ("start_ns", Int),
    ("end_ns", Int),
    ("batch_type", Text),
    ("requests", Int),
    ("prefills", Int),
    ("decodes", Int),
    ("tokens", Int),
    ("blocks_total", Int),
    ("blocks_free", Int),
    ("dp_rank", Int),
    ("drafted", Int),
    ("accepted", Int),
];

const BATCH_REQUESTS: Columns = &[
    ("batch", Int),
    ("rid", Text),
    ("iter", Int),
    ("is_prefill", Int),
    ("scheduled_tokens", Int),
    ("prompt_tokens", Int),
    ("computed_tokens", Int),
];

const FORWARDS: Columns = &[
    ("start_ns", Int),
    ("end_ns", Int),
    ("bubble_ns", Int),
    ("iter", Int),
    ("batch_type", Text),
    ("requests", Int),
    ("dp_rank", Int),
];

const KV_CACHE: Columns = &[
    ("time_ns", Int),
    ("name", Text),
    ("rid", Text),
    ("blocks_total", Int),
    ("blocks_free", Int),
    ("blocks_allocated", Int),
    ("blocks_freed", Int),
    ("usage", Double),
];

const QUEUES: Columns = &[("time_ns", Int), ("queue", Text), ("size", Int)];

/// A value on its way into a column.
enum Cell<'a> {
    Int(Option<i64>),
    Double(Option<f64>),
    Text(Option<&'a str>),
}

impl From<u64> for Cell<'_> {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).ok())
    }
}

impl From<Option<i64>> for Cell<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<Option<u64>> for Cell<'_> {
    fn from(value: Option<u64>) -> Self {
        Self::Int(value.and_then(|value| i64::try_from(value).ok()))
    }
}

impl From<Option<u32>> for Cell<'_> {
    fn from(value: Option<u32>) -> Self {
        Self::Int(value.map(i64::from))
    }
}

impl From<Option<f64>> for Cell<'_> {
    fn from(value: Option<f64>) -> Self {
        Self::Double(value)
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(value))
    }
}

impl<'a> From<Option<&'a str>> for Cell<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value)
    }
}

/// The values of one column that wait to be written; those that are missing only have their level.
#[derive(Debug)]
enum Values {
    Int(Vec<i64>),
    Double(Vec<f64>),
    /// The texts one behind the other, and where each ends.
    Text(Vec<u8>, Vec<usize>),
}

/// A file.
struct Table {
    writer: SerializedFileWriter<File>,
    path: PathBuf,
    columns: Vec<(Values, Vec<i16>)>,
    rows: usize,
    most_rows: usize,
}

impl Table {
    fn create(path: &Path, columns: Columns, most_rows: usize) -> Result<Self, OutputError> {
        let file = files::create_in_scratch(path).map_err(|error| OutputError::new(path, error))?;
        let open = || {
            let field = |(name, holds): &(&str, Holds)| {
                let (physical, converted) = match holds {
                    Int => (Physical::INT64, ConvertedType::NONE),
                    Double => (Physical::DOUBLE, ConvertedType::NONE),
                    Text => (Physical::BYTE_ARRAY, ConvertedType::UTF8),
                };
                let column = Type::primitive_type_builder(name, physical).with_converted_type(converted);
                Ok(Arc::new(column.with_repetition(Repetition::OPTIONAL).build()?))
            };
            let fields = columns.iter().map(field).collect::<Result<Vec<_>, ParquetError>>()?;
            let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?);
            let compression = Compression::ZSTD(ZstdLevel::try_new(1)?);
            let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
            SerializedFileWriter::new(file, schema, properties)
        };
        let writer = open().map_err(|error| OutputError::other(path, error))?;
        let empty = |(_, holds): &(&str, Holds)| {
            let values = match holds {
                Int => Values::Int(Vec::new()),
                Double => Values::Double(Vec::new()),
                Text => Values::Text(Vec::new(), Vec::new()),
            };
            (values, Vec::new())
        };
        let columns = columns.iter().map(empty).collect();
        Ok(Self { writer, path: path.to_owned(), columns, rows: 0, most_rows })
    }

    fn row<const N: usize>(&mut self, cells: [Cell<'_>; N]) -> Result<(), OutputError> {
        for ((values, levels), cell) in self.columns.iter_mut().zip(cells) {
            let is_there = match (values, cell) {
                (Values::Int(values), Cell::Int(Some(value))) => {
                    values.push(value);
                    true
                }
                (Values::Double(values), Cell::Double(Some(value))) => {
                    values.push(value);
                    true
                }
                (Values::Text(texts, ends), Cell::Text(Some(value))) => {
                    texts.extend_from_slice(value.as_bytes());
                    ends.push(texts.len());
                    true
                }
                _ => false,
            };
            levels.push(i16::from(is_there));
        }
        self.rows += 1;
        if self.rows >= self.most_rows { self.write_rows() } else { Ok(()) }
    }

    fn write_rows(&mut self) -> Result<(), OutputError> {
        self.rows = 0;
        let Self { writer, columns, path, .. } = self;
        let write = || {
            let mut group = writer.next_row_group()?;
            for (values, levels) in columns {
                let Some(mut column) = group.next_column()? else { break };
                match values {
                    Values::Int(values) => {
                        column.typed::<Int64Type>().write_batch(values, Some(levels), None)?;
                        values.clear();
                    }
                    Values::Double(values) => {
                        column.typed::<DoubleType>().write_batch(values, Some(levels), None)?;
                        values.clear();
                    }
                    Values::Text(texts, ends) => {
                        // All values share one piece of memory.
                        let (texts, mut start) = (Bytes::from(std::mem::take(texts)), 0);
                        let value =
                            |end| ByteArray::from(texts.slice(std::mem::replace(&mut start, end)..end));
                        let values: Vec<ByteArray> = ends.drain(..).map(value).collect();
                        column.typed::<ByteArrayType>().write_batch(&values, Some(levels), None)?;
                    }
                }
                levels.clear();
                column.close()?;
            }
            group.close().map(drop)
        };
        write().map_err(|error: ParquetError| OutputError::other(path, error))
    }

    fn finish(mut self) -> Result<(), OutputError> {
        if self.rows > 0 {
            self.write_rows()?;
        }
        let Self { writer, path, .. } = self;
        writer.close().map(drop).map_err(|error| OutputError::other(&path, error))
    }
}

/// A table that has a file for each process.
struct Partitioned<'a> {
    folder: PathBuf,
    columns: Columns,
    places: &'a Places,
    tables: FxHashMap<ProcessId, Table>,
}

impl<'a> Partitioned<'a> {
    fn new(folder: &Path, name: &str, columns: Columns, places: &'a Places) -> Self {
        Self { folder: folder.join(name), columns, places, tables: FxHashMap::default() }
    }

    fn of(&mut self, process: ProcessId) -> Result<&mut Table, OutputError> {
        use std::collections::hash_map::Entry;
        match self.tables.entry(process) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let known = self.places.process(process);
                let host = if known.host.is_empty() { "unknown" } else { &known.host };
                let folder = self.folder.join(format!("host={}", files::file_name(host)));
                // Two captures of one pid are two files of one partition.
                let path = folder.join(format!("pid={}", known.pid)).join(format!("{}.parquet", process.0));
                let most_rows = (ROWS_OF_ALL / self.places.processes.len().max(1)).clamp(FEWEST, ROWS);
                Ok(entry.insert(Table::create(&path, self.columns, most_rows)?))
            }
        }
    }

    fn finish(self) -> Result<(), OutputError> {
        self.tables.into_values().try_for_each(Table::finish)
    }
}

/// Writes all records. Gives how many there are.
///
/// # Errors
/// A file can't be written.
pub fn write_records(folder: &Path, session: &Session) -> Result<u64, OutputError> {
    let places = session.places();
    let mut table = Partitioned::new(folder, "records", RECORDS, places);
    let (mut records, mut ids, mut resources) = (session.records(), Ids::of(places), Resources::default());
    let (mut rids, mut attributes, mut count) = (String::new(), Vec::new(), 0);
    while let Some(record) = records.next() {
        count += 1;
        resources.read(record, &mut ids);
        let (kind, value) = match record.kind {
            Kind::Span => ("span", None),
            Kind::Unfinished => ("unfinished", None),
            Kind::Instant => ("instant", None),
            Kind::Counter(value) => ("counter", Some(value)),
        };
        rids.clear();
        for resource in &resources.list {
            rids.push_str(if rids.is_empty() { "" } else { "," });
            rids.push_str(ids.text(resource.request));
        }
        attributes.clear();
        for (key, value) in record.entries().filter(|(key, _)| *key != "rid") {
            attributes.push(if attributes.is_empty() { b'{' } else { b',' });
            // Writing to memory does not fail.
            let _ = json::text(&mut attributes, key);
            attributes.push(b':');
            let _ = json::view(&mut attributes, &value);
        }
        if !attributes.is_empty() {
            attributes.push(b'}');
        }
        let text = |text: &'static str| (!text.is_empty()).then_some(text);
        let attributes = std::str::from_utf8(&attributes).ok().filter(|text| !text.is_empty());
        table.of(record.process)?.row([
            record.start.0.into(),
            record.end.0.into(),
            record.duration().into(),
            kind.into(),
            text(record.domain()).into(),
            text(record.name()).into(),
            u64::from(places.thread(record.thread).tid).into(),
            u64::from(record.lane).into(),
            value.into(),
            Some(rids.as_str()).filter(|text| !text.is_empty()).into(),
            attributes.into(),
        ])?;
    }
    table.finish()?;
    Ok(count)
}

/// Writes the model's tables.
///
/// # Errors
/// A file can't be written.
pub fn write_tables(folder: &Path, places: &Places, model: &Model) -> Result<(), OutputError> {
    requests(folder, places, model)?;
    batches(folder, places, model)?;

    let mut forwards = Partitioned::new(folder, "forwards", FORWARDS, places);
    for row in &model.forwards {
        forwards.of(row.process)?.row([
            row.start.0.into(),
            row.end.0.into(),
            row.bubble.into(),
            (row.iter as u64).into(),
            row.batch_type.map(crate::event::Name::as_str).into(),
            (row.batch_size as u64).into(),
            places.process(row.process).dp_rank.into(),
        ])?;
    }
    forwards.finish()?;

    let mut cache = Partitioned::new(folder, "kv_cache", KV_CACHE, places);
    for row in &model.kv_cache {
        cache.of(row.process)?.row([
            row.start.0.into(),
            row.name.as_str().into(),
            row.request.map(|request| model.ids.text(request)).into(),
            row.state.total.into(),
            row.state.free.or(row.device_blocks).into(),
            row.state.allocated.into(),
            row.state.freed.into(),
            row.state.usage.into(),
        ])?;
    }
    cache.finish()?;

    let mut queues = Partitioned::new(folder, "queues", QUEUES, places);
    for row in &model.queues {
        queues.of(row.process)?.row([row.time.0.into(), row.queue.as_str().into(), Some(row.size).into()])?;
    }
    queues.finish()
}

fn requests(folder: &Path, places: &Places, model: &Model) -> Result<(), OutputError> {
    let mut table = Table::create(&folder.join("requests.parquet"), REQUESTS, ROWS)?;
    for request in &model.requests {
        let Request { id, arrival, first_output, end, queue_wait, .. } = request;
        let (process, shares) = (places.process(request.process), request.shares());
        table.row([
            id.as_str().into(),
            process.host.as_str().into(),
            u64::from(process.pid).into(),
            arrival.map(|time| time.0).into(),
            first_output.map(|time| time.0).into(),
            end.map(|time| time.0).into(),
            request.first_token().into(),
            request.latency().into(),
            (*queue_wait).into(),
            shares.prefill.into(),
            shares.decode.into(),
            shares.host.into(),
            shares.network.into(),
            request.prompt_tokens.into(),
            request.output_tokens.into(),
            request.cache_hit.into(),
        ])?;
    }
    table.finish()
}

fn batches(folder: &Path, places: &Places, model: &Model) -> Result<(), OutputError> {
    let mut table = Partitioned::new(folder, "batches", BATCHES, places);
    let mut parts = Partitioned::new(folder, "batch_requests", BATCH_REQUESTS, places);
    for (number, batch) in model.batches.iter().enumerate() {
        let kv = batch.kv.as_deref();
        let drafts = batch.draft.is_some().then(|| {
            batch.drafts().fold((0, 0), |sum, (_, drafted, accepted)| {
                (sum.0 + i64::from(drafted), sum.1 + i64::from(accepted))
            })
        });
        table.of(batch.process)?.row([
            (number as u64).into(),
            batch.name.as_str().into(),
            batch.start.0.into(),
            batch.end.0.into(),
            batch.batch_type.map(crate::event::Name::as_str).into(),
            (batch.resources.len() as u64).into(),
            batch.size(Phase::Prefill).into(),
            batch.size(Phase::Decode).into(),
            batch.total_tokens().into(),
            kv.and_then(|kv| kv.total).into(),
            kv.and_then(|kv| kv.free).into(),
            places.process(batch.process).dp_rank.into(),
            drafts.map(|(drafted, _)| drafted).into(),
            drafts.map(|(_, accepted)| accepted).into(),
        ])?;
        let parts = parts.of(batch.process)?;
        for resource in &batch.resources {
            parts.row([
                (number as u64).into(),
                model.ids.text(resource.request).into(),
                resource.iter.get().into(),
                resource.phase().map(|phase| i64::from(phase == Phase::Prefill)).into(),
                resource.scheduled.get().into(),
                resource.prompt.get().into(),
                resource.computed.get().into(),
            ])?;
        }
    }
    table.finish()?;
    parts.finish()
}
