//! Which requests a record is about: the attribute `rid` in its three forms, and one identity for the ids that
//! different processes give to one request.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::event::{Name, Places, Process, ProcessId, Record, View};

/// A request: its position in [`Ids`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u32);

/// A number of tokens or steps that may be unknown. Four bytes, since batches hold many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount(u32);

/// What a step does for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Reads the prompt.
    Prefill,
    /// Generates.
    Decode,
}

/// A request's part in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Which request.
    pub request: RequestId,
    /// Steps that it has had before.
    pub iter: Amount,
    /// What this step does, if stated (`type`).
    pub phase: Option<Phase>,
    /// Tokens computed in this step (`num_scheduled_tokens`).
    pub scheduled: Amount,
    /// Length of the prompt (`num_prompt_tokens`).
    pub prompt: Amount,
    /// Tokens computed before this step (`num_computed_tokens`).
    pub computed: Amount,
    /// Tokens that a draft model proposes (`num_spec_output_tokens`, else those scheduled).
    pub drafted: Amount,
}

/// Which of its forms `rid` has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// There is no `rid`.
    #[default]
    None,
    /// One id.
    One,
    /// A list of ids.
    Ids,
    /// A list of mappings.
    Steps,
}

/// The requests of a record.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// How they were written.
    pub shape: Shape,
    /// In their order.
    pub list: Vec<Resource>,
    /// What a batch of them does: `Prefill`, `Decode` or `Prefill,Decode`, as the record says, else as they say.
    pub batch_type: Option<Name>,
    /// The record only says that two ids are one request's.
    pub is_link: bool,
}

/// All request ids of a session. The engine adds `-<8 hex digits>` to the API server's id; both are one request,
/// shown by the API server's id.
#[derive(Debug, Default)]
pub struct Ids {
    texts: Vec<Box<str>>,
    /// Whether the API server has named it: only then are longer ids that begin like it the same.
    is_base: Vec<bool>,
    known: FxHashMap<Box<str>, RequestId>,
    /// Engine ids whose API server's id has not been seen, by what that id would be.
    orphans: FxHashMap<Box<str>, RequestId>,
    links: Links,
}

/// Ids that a process has declared to be another id's: records with `from` and `to`.
#[derive(Debug, Default)]
struct Links {
    by_process: FxHashMap<(ProcessId, Box<str>), RequestId>,
    /// Those of all processes but for numbers, which each process gives out anew.
    of_all: FxHashMap<Box<str>, RequestId>,
    /// By process, its parent on the same host.
    parents: Vec<Option<ProcessId>>,
    /// The process whose record is being read.
    reading: ProcessId,
}

impl Links {
    fn get(&self, text: &str) -> Option<RequestId> {
        if self.by_process.is_empty() {
            return None;
        }
        let parent = self.parents.get(self.reading.0 as usize).copied().flatten();
        let of = |process: ProcessId| self.by_process.get(&(process, text.into()));
        of(self.reading).or_else(|| of(parent?)).or_else(|| self.of_all.get(text)).copied()
    }
}

impl Amount {
    /// Not known.
    pub const UNKNOWN: Self = Self(u32::MAX);

    /// The amount, if it is known and fits.
    pub fn new(value: i64) -> Self {
        u32::try_from(value).map_or(Self::UNKNOWN, Self)
    }

    /// The amount, if known.
    pub fn get(self) -> Option<u32> {
        (self != Self::UNKNOWN).then_some(self.0)
    }
}

impl Resource {
    fn new(request: RequestId) -> Self {
        let unknown = Amount::UNKNOWN;
        Self {
            request,
            iter: unknown,
            phase: None,
            scheduled: unknown,
            prompt: unknown,
            computed: unknown,
            drafted: unknown,
        }
    }

    /// What the step does: as stated, else by the number of steps before it.
    pub fn phase(&self) -> Option<Phase> {
        self.phase
            .or_else(|| self.iter.get().map(|iter| if iter == 0 { Phase::Prefill } else { Phase::Decode }))
    }

    /// Whether this step reads the last of the prompt, so that the first token comes out of it.
    pub fn completes_prefill(&self) -> bool {
        match (self.prompt.get(), self.computed.get(), self.scheduled.get()) {
            (Some(prompt), Some(computed), Some(scheduled)) => {
                computed < prompt && computed.saturating_add(scheduled) >= prompt
            }
            _ => self.iter.get() == Some(0),
        }
    }
}

impl Ids {
    /// Ids of a session with these processes: links that a process declares hold for its children too.
    pub fn of(places: &Places) -> Self {
        let parent = |process: &Process| {
            places
                .processes
                .iter()
                .position(|other| process.is_child_of(other))
                .map(|position| ProcessId(position as u32))
        };
        let parents = places.processes.iter().map(parent).collect();
        Self { links: Links { parents, ..Links::default() }, ..Self::default() }
    }

    /// From now on `to` is what `from` is, in this process and its children.
    fn link(&mut self, from: &View<'_>, to: &View<'_>) {
        let (Some(from), Some(to)) = (spelled(from), spelled(to)) else { return };
        let request = self.resolve(&from, false);
        if to.parse::<i64>().is_err() {
            self.links.of_all.insert(to.as_str().into(), request);
        }
        self.links.by_process.insert((self.links.reading, to.into()), request);
    }

    /// The request of an id. `is_base`: the API server names it (`httpReq`, `tokenize`).
    pub fn resolve(&mut self, text: &str, is_base: bool) -> RequestId {
        if let Some(id) = self.links.get(text) {
            return id;
        }
        if let Some(id) = self.known.get(text).copied() {
            if is_base {
                self.is_base[id.0 as usize] = true;
            }
            return id;
        }
        let id = if is_base { self.orphans.remove(text) } else { self.longest_base(text) };
        let id = id.unwrap_or_else(|| {
            self.texts.push(text.into());
            self.is_base.push(false);
            let id = RequestId(self.texts.len() as u32 - 1);
            if !is_base && let Some(base) = without_engine_suffix(text) {
                self.orphans.insert(base.into(), id);
            }
            id
        });
        if is_base {
            self.texts[id.0 as usize] = text.into();
            self.is_base[id.0 as usize] = true;
        }
        self.known.insert(text.into(), id);
        id
    }

    /// The id as the user knows it.
    pub fn text(&self, id: RequestId) -> &str {
        self.texts.get(id.0 as usize).map_or("", |text| text)
    }

    /// All requests.
    pub fn all(&self) -> impl Iterator<Item = RequestId> {
        (0..self.texts.len() as u32).map(RequestId)
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    fn longest_base(&self, text: &str) -> Option<RequestId> {
        let base = |(end, _)| self.known.get(&text[..end]).copied().filter(|id| self.is_base[id.0 as usize]);
        text.rmatch_indices('-').find_map(base)
    }
}

fn without_engine_suffix(text: &str) -> Option<&str> {
    let (base, suffix) = text.rsplit_once('-')?;
    (suffix.len() == 8 && suffix.bytes().all(|b| b.is_ascii_hexdigit())).then_some(base)
}

impl Resources {
    /// Reads the requests of `record`, in place of those that were here.
    pub fn read(&mut self, record: &Record, ids: &mut Ids) {
        self.list.clear();
        self.batch_type = None;
        ids.links.reading = record.process;
        let is_base = matches!(record.name(), "httpReq" | "tokenize");
        let (mut rid, mut from, mut to) = (None, None, None);
        for (key, value) in record.entries() {
            match key {
                "from" => from = Some(value),
                "to" => to = Some(value),
                "rid" if rid.is_none() => rid = Some(value),
                "batch_type" | "batchType" => self.batch_type = self.batch_type.or(stated_type(&value)),
                _ => {}
            }
        }
        self.is_link = from.is_some() && to.is_some();
        if let (Some(from), Some(to)) = (from, to) {
            ids.link(&from, &to);
        }
        self.shape = match rid {
            None => Shape::None,
            Some(View::Array(items)) => {
                let mut shape = Shape::Ids;
                for item in items {
                    if let View::Dict(entries) = item {
                        shape = Shape::Steps;
                        self.list.extend(step(entries, ids, is_base));
                    } else {
                        self.list.extend(one(&item, ids, is_base));
                    }
                }
                shape
            }
            Some(View::Dict(entries)) => {
                self.list.extend(step(entries, ids, is_base));
                Shape::Steps
            }
            Some(value) => {
                self.list.extend(one(&value, ids, is_base));
                Shape::One
            }
        };
        let has = |phase| self.list.iter().any(|resource| resource.phase() == Some(phase));
        self.batch_type = self.batch_type.or_else(|| match (has(Phase::Prefill), has(Phase::Decode)) {
            (true, false) => Some(Name::new("Prefill")),
            (false, true) => Some(Name::new("Decode")),
            (true, true) => Some(Name::new("Prefill,Decode")),
            (false, false) => None,
        });
    }
}

fn one(value: &View<'_>, ids: &mut Ids, is_base: bool) -> Option<Resource> {
    match value {
        View::Str(text) => Some(Resource::new(ids.resolve(text, is_base))),
        value => Some(Resource::new(ids.resolve(&spelled(value)?, is_base))),
    }
}

/// An id as text. 7.0 and 7 are one id: some senders have no integers.
fn spelled(id: &View<'_>) -> Option<String> {
    match id {
        View::Str(text) => Some((*text).to_owned()),
        View::Int(_) | View::Double(_) => id.as_int().map(|number| number.to_string()),
        _ => None,
    }
}

fn step<'a>(
    entries: impl Iterator<Item = (&'a str, View<'a>)>,
    ids: &mut Ids,
    is_base: bool,
) -> Option<Resource> {
    let mut resource = Resource::new(RequestId(0));
    let mut request = None;
    for (key, value) in entries {
        let amount = |value: &View<'_>| value.as_int().map_or(Amount::UNKNOWN, Amount::new);
        match key {
            "rid" => request = one(&value, ids, is_base),
            "iter" => resource.iter = amount(&value),
            "type" => {
                resource.phase = match value.as_int() {
                    Some(0) => Some(Phase::Prefill),
                    Some(1) => Some(Phase::Decode),
                    _ => None,
                }
            }
            "num_scheduled_tokens" => resource.scheduled = amount(&value),
            "num_prompt_tokens" => resource.prompt = amount(&value),
            "num_computed_tokens" => resource.computed = amount(&value),
            "num_spec_output_tokens" => resource.drafted = amount(&value),
            _ => {}
        }
    }
    request.map(|request| Resource { request: request.request, ..resource })
}

/// What a record says that its batch does: a text, or a number of old senders.
fn stated_type(value: &View<'_>) -> Option<Name> {
    if let Some(text) = value.as_str() {
        return Some(Name::new(if text == "Prefill, Decode" { "Prefill,Decode" } else { text }));
    }
    Some(Name::new(match value.as_int()? {
        0 => "Prefill",
        1 => "Decode",
        2 => "Extend",
        3 => "Mixed",
        5 => "Dummy",
        _ => "Other",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_id_is_the_api_servers_whichever_came_first() {
        let mut ids = Ids::default();
        let first = ids.resolve("cmpl-a", true);
        assert_eq!(ids.resolve("cmpl-a-0123abcd", false), first);
        let second = ids.resolve("cmpl-b-89abcdef", false);
        assert_eq!(ids.text(second), "cmpl-b-89abcdef");
        assert_eq!(ids.resolve("cmpl-b", true), second);
        assert_eq!(ids.text(second), "cmpl-b");
        assert_eq!(ids.len(), 2);
    }

    #[test]
    fn a_link_holds_for_its_process_and_the_children_of_it() {
        let process = |pid, parent| Process { pid, parent, ..Process::default() };
        let places = Places {
            processes: vec![process(1, None), process(2, Some(1)), process(3, None)],
            threads: Vec::new(),
        };
        let (mut ids, mut resources) = (Ids::of(&places), Resources::default());
        let mut request_of = |number: u32, entries: &[(&str, crate::event::Value)]| {
            let mut record = crate::source::fixture::record((1, 1), "Request", "r", entries);
            record.process = ProcessId(number);
            resources.read(&record, &mut ids);
            resources.list.first().map(|resource| ids.text(resource.request).to_owned())
        };
        let number = |n| crate::event::Value::Int(n);
        let text = crate::source::fixture::text;
        request_of(0, &[("from", text("cmpl-a")), ("to", number(7))]);
        request_of(0, &[("from", text("cmpl-a")), ("to", text("inner-a"))]);
        assert_eq!(request_of(0, &[("rid", number(7))]).as_deref(), Some("cmpl-a"));
        assert_eq!(request_of(1, &[("rid", number(7))]).as_deref(), Some("cmpl-a"));
        assert_eq!(request_of(2, &[("rid", number(7))]).as_deref(), Some("7"), "numbers are a process's own");
        assert_eq!(request_of(2, &[("rid", text("inner-a"))]).as_deref(), Some("cmpl-a"));
    }

    #[test]
    fn ids_that_only_look_alike_stay_apart() {
        let mut ids = Ids::default();
        let short = ids.resolve("job-1", true);
        let long = ids.resolve("job-1-x", true);
        assert_ne!(short, long);
        assert_eq!(ids.resolve("job-1-x-00000000", false), long, "the longest base wins");
        assert_ne!(ids.resolve("job-12", false), short, "a base ends at a dash");
        let left = ids.resolve("user-deadbeef", false);
        assert_ne!(ids.resolve("user-cafecafe", false), left, "without a base, a suffix means nothing");
    }

    #[test]
    fn a_prefill_is_complete_with_the_step_that_reaches_the_prompts_end() {
        let step = |prompt, computed, scheduled| Resource {
            prompt: Amount::new(prompt),
            computed: Amount::new(computed),
            scheduled: Amount::new(scheduled),
            ..Resource::new(RequestId(0))
        };
        for (prompt, computed, scheduled, completes) in
            [(10, 0, 10, true), (10, 0, 8, false), (10, 8, 2, true), (10, 10, 1, false), (10, -1, 10, false)]
        {
            assert_eq!(step(prompt, computed, scheduled).completes_prefill(), completes);
        }
    }
}
