//! One identity for the ids that different processes give to one request. This is the only place that decides it.
//!
//! A request is what the engine runs. vLLM's engine makes its id from the API server's: `<id>-<8 hex digits>`, and for
//! `n` > 1 a child for each answer, `0_<id>…`. Records that have both (`rid`, the engine's, and `http_rid`, the API
//! server's) say which belong together. Where none does, as in older captures and in those of other tools, ids are
//! matched by their text; an id that comes again after its request has ended is a new request, and where two of the
//! engine's requests bear one id at once, what names them by that id alone can't be told apart: it counts for neither.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use crate::event::request_id::{CUT, answer_of, is_engine_suffix, without_engine_suffix};
use crate::event::{Places, Process, ProcessId, View};

/// A request: its position in [`Ids`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u32);

/// How a record knows the requests that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role<'a> {
    /// By the API server's id, when one arrives.
    Arrival,
    /// By the API server's id, before the engine has it.
    Coming,
    /// By the API server's id.
    Front,
    /// By whatever id.
    Other,
    /// By the engine's id, with the API server's beside it; whether it arrives.
    Named(&'a str, bool),
}

/// All request ids of a session. A request is shown by the API server's id; if several had that, by `id`, `id#2` ….
#[derive(Debug, Default)]
pub struct Ids {
    requests: Vec<Known>,
    /// The newest request of each id.
    by_text: FxHashMap<Box<str>, RequestId>,
    /// Engine ids whose API server's id has not been seen, by what that id would be.
    orphans: FxHashMap<Box<str>, RequestId>,
    /// How many requests bear an id of the API server's.
    bearers: FxHashMap<Box<str>, u32>,
    links: Links,
    /// There are records with both ids, so that the engine's are known to be the API server's and a suffix, no more.
    has_joined: bool,
}

#[derive(Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all ways to combine them occur"
)]
struct Known {
    text: Box<str>,
    /// It is shown by the API server's id.
    is_shown: bool,
    /// The API server has named it: only then are longer ids that begin like it the same.
    is_base: bool,
    has_arrived: bool,
    has_ended: bool,
    /// An id of the engine's is known for it.
    has_engine_id: bool,
    /// By a record with both ids: no other id of the engine's is its own.
    is_joined: bool,
    /// The request of the API server's that this is a part of.
    parent: Option<RequestId>,
    has_parts: bool,
    /// Another one of the engine's had the same id of the API server's at the same time.
    is_shared: bool,
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

impl Role<'_> {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "httpReq" => Self::Arrival,
            "processInputs" => Self::Coming,
            "tokenize" | "generate" => Self::Front,
            _ => Self::Other,
        }
    }
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

impl Ids {
    /// Ids of a session with these processes: links that a process declares hold for its children too.
    pub fn of(places: &Places) -> Self {
        let parent = |process: &Process| {
            let is_it = |other: &Process| process.is_child_of(other);
            places.processes.iter().position(is_it).map(|position| ProcessId(position as u32))
        };
        let parents = places.processes.iter().map(parent).collect();
        Self { links: Links { parents, ..Links::default() }, ..Self::default() }
    }

    /// The next records are this process's.
    pub(super) fn read(&mut self, process: ProcessId) {
        self.links.reading = process;
    }

    /// From now on `to` is what `from` is, in this process and its children.
    pub(super) fn link(&mut self, from: &View<'_>, to: &View<'_>) {
        let (Some(from), Some(to)) = (spelled(from), spelled(to)) else { return };
        let request = self.resolve(&from, Role::Other);
        if to.parse::<i64>().is_err() {
            self.links.of_all.insert(to.as_str().into(), request);
        }
        self.links.by_process.insert((self.links.reading, to.into()), request);
    }

    /// The request of an id.
    pub(super) fn resolve(&mut self, text: &str, role: Role<'_>) -> RequestId {
        if let Some(id) = self.links.get(text) {
            return id;
        }
        match role {
            Role::Named(api, arrives) if api != text => self.named(text, api, arrives),
            Role::Arrival | Role::Named(_, true) => self.arrival(text),
            Role::Coming => self.front(text, false),
            Role::Front => self.front(text, true),
            Role::Other | Role::Named(_, false) => self.other(text),
        }
    }

    /// The engine's id of a request that the engine or the API server names.
    pub(super) fn engine(&mut self, text: &str) -> RequestId {
        self.resolve(text, Role::Other)
    }

    /// It has ended: who comes with its id is another one.
    pub(super) fn end(&mut self, id: RequestId) {
        self.known(id).has_ended = true;
    }

    /// The id as the user knows it.
    pub fn text(&self, id: RequestId) -> &str {
        self.requests.get(id.0 as usize).map_or("", |known| &known.text)
    }

    /// The request of the API server's that it is a part of: one of `n` answers.
    pub fn parent(&self, id: RequestId) -> Option<RequestId> {
        self.requests.get(id.0 as usize)?.parent
    }

    /// Whether others are parts of it.
    pub fn has_parts(&self, id: RequestId) -> bool {
        self.requests.get(id.0 as usize).is_some_and(|known| known.has_parts)
    }

    /// Whether what names it by the API server's id may mean another one.
    pub fn is_shared(&self, id: RequestId) -> bool {
        self.requests.get(id.0 as usize).is_some_and(|known| known.is_shared)
    }

    /// How many requests are shared so.
    pub fn shared(&self) -> usize {
        self.requests.iter().filter(|known| known.is_shared).count()
    }

    /// What an id names that was cut without a mark of its own: any of those that begin like it. Earlier releases did so in
    /// some records of a request and not in others.
    pub fn cut(&self) -> FxHashSet<RequestId> {
        let (cut, mut whole): (Vec<&str>, Vec<&str>) =
            self.by_text.keys().map(|text| &**text).partition(|text| text.ends_with(CUT));
        if cut.is_empty() {
            return FxHashSet::default();
        }
        whole.sort_unstable();
        let begins_others = |text: &&str| {
            let start = text.trim_end_matches(CUT);
            let alike = whole[whole.partition_point(|whole| *whole < start)..].iter();
            // A client's own id may end in the mark; the engine's of it has the mark too.
            alike.take_while(|whole| whole.starts_with(start)).any(|whole| !whole.starts_with(text))
        };
        cut.into_iter().filter(begins_others).filter_map(|text| self.by_text.get(text).copied()).collect()
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    fn known(&mut self, id: RequestId) -> &mut Known {
        &mut self.requests[id.0 as usize]
    }

    fn add(&mut self, text: &str, known: Known) -> RequestId {
        let id = RequestId(self.requests.len() as u32);
        self.requests.push(known);
        self.by_text.insert(text.into(), id);
        id
    }

    /// How a request with this id is shown: the second that bears it, and those after it, with their number.
    fn shown(&mut self, api: &str) -> Box<str> {
        let count = self.bearers.entry(api.into()).or_default();
        *count += 1;
        if *count == 1 { api.into() } else { format!("{api}#{count}").into() }
    }

    /// The API server has named it: from now on it is shown by that id.
    fn show(&mut self, id: RequestId, api: &str) {
        let known = self.known(id);
        if known.is_base {
            return;
        }
        known.is_base = true;
        if !known.is_shown {
            self.known(id).text = self.shown(api);
        }
    }

    fn arrival(&mut self, text: &str) -> RequestId {
        let before = self.by_text.get(text).copied();
        let id = match self.orphans.remove(text).or(before) {
            Some(id) if !(self.known(id).has_arrived && self.known(id).has_ended) => id,
            _ => self.add(text, Known::default()),
        };
        if !self.known(id).has_arrived {
            self.show(id, text);
            let known = self.known(id);
            (known.has_arrived, known.is_shared) = (true, false);
        }
        self.by_text.insert(text.into(), id);
        id
    }

    fn front(&mut self, text: &str, may_run: bool) -> RequestId {
        let mut known = self.by_text.get(text).copied();
        if known.is_none() && may_run {
            known = self.orphans.remove(text);
        }
        let id = known.unwrap_or_else(|| self.add(text, Known::default()));
        self.show(id, text);
        self.by_text.insert(text.into(), id);
        id
    }

    fn named(&mut self, engine: &str, api: &str, arrives: bool) -> RequestId {
        let child = answer_of(engine).filter(|(_, parent)| parent.starts_with(api)).map(|(index, _)| index);
        self.has_joined = true;
        let before = self.by_text.get(engine).copied();
        if let Some(id) = before {
            let known = self.known(id);
            (known.is_joined, known.is_shared) = (true, false);
        }
        if let Some(id) = before.filter(|id| self.known(*id).has_engine_id && self.known(*id).is_base) {
            self.known(id).has_arrived |= arrives;
            return id;
        }
        // What only the API server has spoken of so far, unless it is one that was turned away.
        let of_front = self.by_text.get(api).copied().filter(|_| before.is_none() && child.is_none());
        let of_front = of_front.filter(|id| {
            let known = self.known(*id);
            let is_taken = known.has_engine_id || known.has_parts || arrives && known.has_arrived;
            known.is_base && !is_taken
        });
        let id = of_front.or(before).unwrap_or_else(|| self.add(engine, Known::default()));
        let shown = child.map_or_else(|| api.to_owned(), |index| format!("{index}_{api}"));
        self.show(id, &shown);
        let known = self.known(id);
        (known.has_engine_id, known.is_joined) = (true, true);
        if child.is_none() {
            known.parent = None;
        }
        known.has_arrived |= arrives;
        self.by_text.insert(engine.into(), id);
        if child.is_none() {
            self.by_text.insert(api.into(), id);
        }
        id
    }

    fn other(&mut self, text: &str) -> RequestId {
        if let Some(id) = self.by_text.get(text) {
            return *id;
        }
        if text.ends_with(CUT) {
            return self.add(text, Known { text: text.into(), ..Known::default() });
        }
        if let Some((base, rest)) = self.longest_base(text) {
            if !self.known(base).has_engine_id {
                self.known(base).has_engine_id = true;
                self.by_text.insert(text.into(), base);
                return base;
            }
            let shared = rest.is_some_and(is_engine_suffix);
            let shown = if shared { self.shown(&text[..text.len() - 9]) } else { text.into() };
            let parent = (!shared).then_some(base);
            self.known(base).is_shared |= shared;
            self.known(base).has_parts |= !shared;
            let known = Known {
                text: shown,
                is_shown: shared,
                has_engine_id: true,
                is_shared: shared,
                parent,
                ..Known::default()
            };
            let id = self.add(text, known);
            if shared && let Some(base) = without_engine_suffix(text) {
                self.orphans.insert(base.into(), id);
            }
            return id;
        }
        if let Some((index, parent)) = answer_of(text) {
            let exact = self.by_text.get(parent).copied();
            let exact = exact.filter(|id| self.known(*id).is_base && !self.known(*id).is_joined);
            if let Some(base) = exact.or_else(|| self.longest_base(parent).map(|(base, _)| base)) {
                self.known(base).has_parts = true;
                let shown = self.shown(&format!("{index}_{}", self.text(base)));
                let known = Known {
                    text: shown,
                    is_shown: true,
                    has_engine_id: true,
                    parent: Some(base),
                    ..Known::default()
                };
                return self.add(text, known);
            }
        }
        let id = self.add(text, Known { text: text.into(), ..Known::default() });
        if let Some(base) = without_engine_suffix(text) {
            self.known(id).has_engine_id = true;
            self.orphans.insert(base.into(), id);
        }
        id
    }

    /// The request of the API server's whose id this one begins with, and what follows it.
    fn longest_base<'a>(&self, text: &'a str) -> Option<(RequestId, Option<&'a str>)> {
        text.rmatch_indices('-').find_map(|(end, _)| {
            let id = self.by_text.get(&text[..end]).copied()?;
            let (known, rest) = (&self.requests[id.0 as usize], text.get(end + 1..));
            let may_be = !self.has_joined || rest.is_some_and(is_engine_suffix);
            (known.is_base && !known.is_joined && may_be).then_some((id, rest))
        })
    }
}

/// An id as text. 7.0 and 7 are one id: some senders have no integers.
pub(super) fn spelled(id: &View<'_>) -> Option<String> {
    match id {
        View::Str(text) => Some((*text).to_owned()),
        View::Int(_) | View::Double(_) => id.as_int().map(|number| number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Resources;

    #[test]
    fn the_engines_id_is_the_api_servers_whichever_came_first() {
        let mut ids = Ids::default();
        let first = ids.resolve("cmpl-a", Role::Arrival);
        assert_eq!(ids.engine("cmpl-a-0123abcd"), first);
        let second = ids.engine("cmpl-b-89abcdef");
        assert_eq!(ids.text(second), "cmpl-b-89abcdef");
        assert_eq!(ids.resolve("cmpl-b", Role::Arrival), second);
        assert_eq!(ids.text(second), "cmpl-b");
        assert_eq!(ids.len(), 2);
    }

    #[test]
    fn an_id_that_comes_again_is_another_request() {
        let mut ids = Ids::default();
        let first = ids.resolve("a", Role::Arrival);
        assert_eq!(ids.engine("a-00000001"), first);
        assert_eq!(ids.resolve("a", Role::Arrival), first, "it goes on");
        ids.end(first);
        let second = ids.resolve("a", Role::Arrival);
        assert_eq!(ids.engine("a-00000002"), second);
        assert_eq!(ids.engine("a-00000001"), first, "its late records are its own");
        assert_eq!((ids.text(first), ids.text(second)), ("a", "a#2"));
        assert!(!ids.is_shared(first) && !ids.is_shared(second));
    }

    #[test]
    fn two_at_once_that_only_their_text_could_join_are_shared() {
        let mut ids = Ids::default();
        let first = ids.resolve("a", Role::Arrival);
        ids.resolve("a", Role::Arrival);
        assert_eq!(ids.engine("a-00000001"), first);
        let second = ids.engine("a-00000002");
        assert_ne!(first, second);
        assert!(ids.is_shared(first) && ids.is_shared(second));
    }

    #[test]
    fn records_with_both_ids_join_them_exactly() {
        let mut ids = Ids::default();
        ids.resolve("a", Role::Front);
        let first = ids.resolve("a-00000001", Role::Named("a", true));
        let second = ids.resolve("a-00000002", Role::Named("a", true));
        assert_ne!(first, second);
        assert_eq!(ids.engine("a-00000001"), first);
        assert_eq!(ids.resolve("a-00000002", Role::Named("a", false)), second);
        assert_eq!((ids.text(first), ids.text(second)), ("a", "a#2"));
        assert!(!ids.is_shared(first));
        let late = ids.engine("x-00000003");
        assert_eq!(ids.resolve("x-00000003", Role::Named("x", false)), late);
        assert_eq!(ids.text(late), "x");
        let [zero, one] = ["0_c-00000004", "1_c-00000004"].map(|id| ids.resolve(id, Role::Named("c", true)));
        assert_eq!((ids.text(zero), ids.text(one)), ("0_c", "1_c"));
    }

    #[test]
    fn where_records_have_both_ids_nothing_is_joined_that_only_begins_alike() {
        let mut ids = Ids::default();
        let first = ids.resolve("a-00000001", Role::Named("a", true));
        let coming = ids.resolve("b", Role::Coming);
        assert_ne!(ids.engine("b-1-beam-0-00000002"), coming);
        assert_ne!(ids.engine("a-00000003"), first);
        assert!(!ids.is_shared(first), "no record means it by the other's id");
        let parts = ["0_b-00000004", "0_b-00000005"].map(|id| ids.engine(id));
        assert_eq!(parts.map(|id| ids.text(id).to_owned()), ["0_b", "0_b#2"]);
        ids.resolve("0_b-00000005", Role::Named("b", false));
        assert_eq!(ids.text(parts[1]), "0_b#2");
    }

    #[test]
    fn no_two_requests_are_shown_alike() {
        let mut ids = Ids::default();
        let before = ids.engine("a-00000001");
        let next = ids.resolve("a", Role::Coming);
        assert_ne!(before, next, "what the engine has is not what comes");
        assert_eq!(ids.resolve("a-00000002", Role::Named("a", true)), next);
        assert_eq!((ids.text(before), ids.text(next)), ("a-00000001", "a"));
        let before = ids.engine("b-00000001");
        assert_eq!(ids.resolve("b", Role::Front), before);
        let next = ids.resolve("b-00000002", Role::Named("b", true));
        assert_eq!((ids.text(before), ids.text(next)), ("b", "b#2"));
    }

    #[test]
    fn the_answers_of_one_request_are_its_parts() {
        let mut ids = Ids::default();
        let parent = ids.resolve("c", Role::Arrival);
        let parts = ["0_c-00000001", "1_c-00000001"].map(|id| ids.engine(id));
        assert!(ids.has_parts(parent));
        for (part, shown) in parts.into_iter().zip(["0_c", "1_c"]) {
            assert_eq!((ids.parent(part), ids.text(part)), (Some(parent), shown));
        }
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
    fn what_was_cut_belongs_to_none_of_those_that_begin_like_it() {
        let (long, other) = ("x".repeat(10_000) + "a", "x".repeat(10_000) + "b");
        let cut = format!("{}…", &long[..256]);
        let mut ids = Ids::default();
        let coming = ids.resolve(&cut, Role::Coming);
        let first = ids.resolve(&long, Role::Arrival);
        assert_eq!(ids.engine(&format!("{long}-00000001")), first);
        let part = ids.engine(&format!("{long}-000…"));
        assert!(part != first && !ids.has_parts(first));
        let second = ids.resolve(&other, Role::Arrival);
        assert_eq!(ids.cut(), FxHashSet::from_iter([coming, part]));
        assert!(first != second && !ids.is_shared(second));
        let mut ids = Ids::default();
        let chosen = ids.resolve("to be continued…", Role::Arrival);
        assert_eq!(ids.engine("to be continued…-00000001"), chosen);
        assert!(ids.cut().is_empty(), "clients may choose such an id");
    }

    #[test]
    fn ids_that_only_look_alike_stay_apart() {
        let mut ids = Ids::default();
        let short = ids.resolve("job-1", Role::Arrival);
        let long = ids.resolve("job-1-x", Role::Arrival);
        assert_ne!(short, long);
        assert_eq!(ids.engine("job-1-x-00000000"), long, "the longest base wins");
        assert_ne!(ids.engine("job-12"), short, "a base ends at a dash");
        let left = ids.engine("user-deadbeef");
        assert_ne!(ids.engine("user-cafecafe"), left, "without a base, a suffix means nothing");
    }
}
