//! Captures for tests: a process that records at exact times, through the real writer.

use std::path::{Path, PathBuf};

use crate::clock::{Nanos, Snapshot};
use crate::event::{Attributes, Kind, Label, Name, Record, Value};
use crate::trace::{Clocks, Process, Sequence, Thread, Writer};

/// Unix time of boot in these captures: 2023-11-14 22:13:20 UTC.
pub(crate) const BOOT: u64 = 1_700_000_000_000_000_000;

/// A process that records on one thread.
pub(crate) struct Recording {
    host: String,
    pid: u32,
    writer: Writer,
    thread: Sequence,
    bytes: Vec<u8>,
}

/// Attributes from keys and values.
pub(crate) fn attributes(entries: &[(&str, Value)]) -> Attributes {
    let mut attributes = Attributes::default();
    for (key, value) in entries {
        attributes.key(Name::new(key)).value(value);
    }
    attributes
}

/// A record that no file holds: an instant, or a span if the times differ.
pub(crate) fn record(times: (u64, u64), domain: &str, name: &str, entries: &[(&str, Value)]) -> Record {
    let mut record = Record::instant(Label::new(domain, name), Nanos(times.0));
    if times.0 != times.1 {
        (record.kind, record.end) = (Kind::Span, Nanos(times.1));
    }
    record.attributes = attributes(entries).into_bytes();
    record
}

/// A text.
pub(crate) fn text(text: &str) -> Value {
    Value::Str(text.into())
}

/// A list of ids.
pub(crate) fn ids(ids: &[&str]) -> Value {
    Value::Array(ids.iter().map(|id| text(id)).collect())
}

/// A step of a request: id, iter, scheduled, prompt and computed tokens.
pub(crate) fn step(rid: &str, iter: i64, scheduled: i64, prompt: i64, computed: i64) -> Value {
    let phase = i64::from(computed >= prompt);
    let number = |key: &str, value| (key.into(), Value::Int(value));
    Value::Dict(vec![
        ("rid".into(), text(rid)),
        number("iter", iter),
        number("type", phase),
        number("num_scheduled_tokens", scheduled),
        number("num_prompt_tokens", prompt),
        number("num_computed_tokens", computed),
    ])
}

/// Clocks of a machine that was booted at this unix time.
pub(crate) fn booted_at(unix: u64) -> Clocks {
    Clocks::Fixed(Snapshot { boot: Nanos(0), monotonic: Nanos(0), real: Nanos(unix) })
}

impl Recording {
    /// A process of a host.
    pub(crate) fn new(host: &str, pid: u32, name: &str, facts: &[(&str, &str)]) -> Self {
        Self::on(booted_at(BOOT), host, pid, name, facts)
    }

    /// A process of a host, whose capture is compressed or not.
    pub(crate) fn packed(host: &str, pid: u32, is_packed: bool) -> Self {
        Self::with(booted_at(BOOT), host, (pid, "p"), &[], is_packed)
    }

    /// A process on a machine with these clocks.
    pub(crate) fn on(clocks: Clocks, host: &str, pid: u32, name: &str, facts: &[(&str, &str)]) -> Self {
        Self::with(clocks, host, (pid, name), facts, false)
    }

    fn with(
        clocks: Clocks,
        host: &str,
        (pid, name): (u32, &str),
        facts: &[(&str, &str)],
        is_packed: bool,
    ) -> Self {
        let process = Process { pid, name: name.into(), command: vec!["python".into(), name.into()] };
        let mut all = vec![("hostname", host)];
        all.extend_from_slice(facts);
        let mut writer = Writer::new(process, clocks, &all).in_blocks(is_packed, None);
        let thread = writer.thread(&Thread { tid: pid + 1, name: "main".into(), sequence: pid * 7 + 3 });
        Self { host: host.into(), pid, writer, thread, bytes: Vec::new() }
    }

    pub(crate) fn begin(&mut self, time: u64, domain: &str, name: &str) {
        self.writer.begin(&mut self.thread, Nanos(time), Label::new(domain, name));
    }

    pub(crate) fn end(&mut self, time: u64, entries: &[(&str, Value)]) {
        let attributes = attributes(entries);
        self.writer.end(&mut self.thread, Nanos(time), attributes.as_bytes()).unwrap();
    }

    pub(crate) fn span(&mut self, times: (u64, u64), domain: &str, name: &str, entries: &[(&str, Value)]) {
        self.begin(times.0, domain, name);
        self.end(times.1, entries);
    }

    pub(crate) fn instant(&mut self, time: u64, domain: &str, name: &str, entries: &[(&str, Value)]) {
        let (label, attributes) = (Label::new(domain, name), attributes(entries));
        self.writer.instant(&mut self.thread, Nanos(time), label, attributes.as_bytes()).unwrap();
    }

    /// The writer and the thread, for what has no shorthand.
    pub(crate) fn raw(&mut self) -> (&mut Writer, &mut Sequence) {
        (&mut self.writer, &mut self.thread)
    }

    /// The capture's bytes so far. They end a block.
    pub(crate) fn bytes(&mut self) -> &[u8] {
        self.writer.seal();
        self.bytes.extend_from_slice(self.writer.pending());
        self.writer.written();
        &self.bytes
    }

    /// Ends the capture and writes its file.
    pub(crate) fn save(&mut self, folder: &Path) -> PathBuf {
        self.writer.close();
        let path = folder.join(format!("{}-{}.pftrace", self.host, self.pid));
        std::fs::write(&path, self.bytes()).unwrap();
        path
    }
}

/// A session of an API server and an engine that served two requests; times in milliseconds since boot:
/// `cmpl-a` (3 prompt tokens, 2 output tokens) came at 10, had its first token at 32 and was done at 42;
/// `cmpl-b` (5 prompt tokens, 1 output token) came at 22, had its token at 42 and was done then.
pub(crate) fn session(folder: &Path) {
    const MS: u64 = 1_000_000;
    let mut api = Recording::new("node", 100, "api_server", &[("ppid", "1")]);
    let mut engine = Recording::new("node", 200, "VLLM::EngineCore", &[("ppid", "100")]);
    let (a, b) = ("cmpl-a-0123abcd", "cmpl-b-89abcdef");
    for (time, rid) in [(10, "cmpl-a"), (22, "cmpl-b")] {
        api.instant(time * MS, "Engine", "httpReq", &[("rid", text(rid))]);
        api.instant(time * MS + 1, "Engine", "tokenize", &[("rid", text(rid))]);
    }
    let queue = |rid: Value, size: i64, name: &str| {
        [("rid", rid), ("QueueSize=", Value::Int(size)), ("scope#QueueName", text(name))]
    };
    let blocks = |used: i64, allocated: i64| {
        [
            ("rid", ids(&[a])),
            ("TotalBlocks=", Value::Int(10)),
            ("UsedBlocks=", Value::Int(used)),
            ("FreeBlocks=", Value::Int(10 - used)),
            ("UsagePercent=", Value::Double(used as f64 / 10.0)),
            ("AllocatedBlocks=", Value::Int(allocated)),
        ]
    };
    engine.instant(11 * MS, "Schedule", "Enqueue", &queue(text(a), 1, "WAITING"));
    engine.begin(20 * MS, "Schedule", "batchFrameworkProcessing");
    engine.instant(20 * MS + 1, "Schedule", "Enqueue", &queue(ids(&[a]), 1, "RUNNING"));
    engine.instant(20 * MS + 2, "Schedule", "Dequeue", &queue(ids(&[a]), 0, "WAITING"));
    engine.instant(20 * MS + 3, "Schedule.KVCache", "KVCacheStatus", &blocks(2, 2));
    let first = [("rid", Value::Array(vec![step(a, 0, 3, 3, 0)])), ("batch_type", text("Prefill"))];
    engine.end(21 * MS, &first);
    engine.instant(23 * MS, "Schedule", "Enqueue", &queue(text(b), 1, "WAITING"));
    engine.begin(25 * MS, "Execute", "modelExec");
    engine.span((26 * MS, 29 * MS), "Execute", "forward", &[("rid", ids(&[a]))]);
    engine.end(30 * MS, &first);
    api.instant(32 * MS, "Engine", "detokenize", &[("rid", ids(&[a]))]);

    let second = [
        ("rid", Value::Array(vec![step(a, 1, 1, 3, 3), step(b, 0, 5, 5, 0)])),
        ("batch_type", text("Prefill,Decode")),
    ];
    engine.begin(33 * MS, "Schedule", "batchFrameworkProcessing");
    engine.instant(33 * MS + 2, "Schedule", "Dequeue", &queue(ids(&[b]), 0, "WAITING"));
    engine.instant(33 * MS + 3, "Schedule.KVCache", "KVCacheStatus", &blocks(5, 3));
    engine.end(34 * MS, &second);
    engine.begin(35 * MS, "Execute", "modelExec");
    engine.span((36 * MS, 39 * MS), "Execute", "forward", &[("rid", ids(&[a, b]))]);
    engine.end(40 * MS, &second);
    for (rid, prompt, reply) in [(a, 3, 2), (b, 5, 1)] {
        let sizes = [
            ("rid", text(rid)),
            ("recvTokenSize=", Value::Int(prompt)),
            ("replyTokenSize=", Value::Int(reply)),
        ];
        api.instant(42 * MS, "Engine", "httpRes", &sizes);
    }
    api.instant(42 * MS, "Engine", "detokenize", &[("rid", ids(&[a, b]))]);
    engine.instant(43 * MS, "Schedule.KVCache", "Free", &[("rid", text(a)), ("deviceBlock=", Value::Int(9))]);
    api.save(folder);
    engine.save(folder);
}
