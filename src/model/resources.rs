//! Which requests a record is about: the attribute `rid` in its three forms.

use serde::{Deserialize, Serialize};

use super::ids::{Ids, RequestId, Role, spelled};
use crate::event::request_id::CUT;
use crate::event::{Name, Record, View};

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

impl Resources {
    /// Reads the requests of `record`, in place of those that were here.
    pub fn read(&mut self, record: &Record, ids: &mut Ids) {
        self.list.clear();
        self.batch_type = None;
        ids.read(record.process);
        let role = Role::of(record.name());
        let (mut rid, mut from, mut to, mut http_rid) = (None, None, None, None);
        for (key, value) in record.entries() {
            match key {
                "from" => from = Some(value),
                "to" => to = Some(value),
                "rid" if rid.is_none() => rid = Some(value),
                "http_rid" => http_rid = value.as_str(),
                "batch_type" | "batchType" => self.batch_type = self.batch_type.or(stated_type(&value)),
                _ => {}
            }
        }
        self.is_link = from.is_some() && to.is_some();
        if let (Some(from), Some(to)) = (from, to) {
            ids.link(&from, &to);
        }
        let role = http_rid.map_or(role, |text| Role::Named(text, role == Role::Arrival));
        self.shape = match rid {
            None => Shape::None,
            Some(View::Array(items)) => {
                let mut shape = Shape::Ids;
                for item in items {
                    if let View::Dict(entries) = item {
                        shape = Shape::Steps;
                        self.list.extend(step(entries, ids, role));
                    } else {
                        self.list.extend(one(&item, ids, role));
                    }
                }
                shape
            }
            Some(View::Dict(entries)) => {
                self.list.extend(step(entries, ids, role));
                Shape::Steps
            }
            Some(value) => {
                self.list.extend(one(&value, ids, role));
                Shape::One
            }
        };
        if matches!(record.name(), "httpRes" | "coreRes" | "DecodeEnd") {
            self.list.iter().for_each(|resource| ids.end(resource.request));
        }
        let has = |phase| self.list.iter().any(|resource| resource.phase() == Some(phase));
        self.batch_type = self.batch_type.or_else(|| match (has(Phase::Prefill), has(Phase::Decode)) {
            (true, false) => Some(Name::new("Prefill")),
            (false, true) => Some(Name::new("Decode")),
            (true, true) => Some(Name::new("Prefill,Decode")),
            (false, false) => None,
        });
    }
}

fn one(value: &View<'_>, ids: &mut Ids, role: Role<'_>) -> Option<Resource> {
    match value {
        // "… and 7 more", of a list that was cut.
        View::Str(text) if text.starts_with(CUT) => None,
        View::Str(text) => Some(Resource::new(ids.resolve(text, role))),
        value => Some(Resource::new(ids.resolve(&spelled(value)?, role))),
    }
}

fn step<'a>(
    entries: impl Iterator<Item = (&'a str, View<'a>)>,
    ids: &mut Ids,
    role: Role<'_>,
) -> Option<Resource> {
    let mut resource = Resource::new(RequestId(0));
    let mut request = None;
    for (key, value) in entries {
        let amount = |value: &View<'_>| value.as_int().map_or(Amount::UNKNOWN, Amount::new);
        match key {
            "rid" => request = one(&value, ids, role),
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
