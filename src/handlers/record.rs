//! What all built-in handlers do: make labels once, read a datum that an object may lack, record spans and events.

use std::cell::Cell;
use std::thread::LocalKey;

use once_cell::sync::Lazy;
use parking_lot::Mutex;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use rustc_hash::FxHashMap;

use crate::clock::Ticks;
use crate::event::{Attributes, Label, Name};
use crate::hook::{
    Attempt, Call, Interrupt, append_error, caught, error, message, refuse_iterator, utf8, with_buffer,
};
use crate::recorder::{self, Open};

/// Attribute names that are made once.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub(super) static $name: Lazy<Name> = Lazy::new(|| Name::new($text));)*
    };
}

/// A label that is made once.
macro_rules! label {
    ($domain:literal, $name:literal) => {{
        static LABEL: once_cell::sync::Lazy<crate::event::Label> =
            once_cell::sync::Lazy::new(|| crate::event::Label::new($domain, $name));
        *LABEL
    }};
}
pub(super) use label;

// The attribute names of msServiceProfiler's records, which the tables are built from.
names! {
    RID = "rid";
    /// The API server's id of a request, beside the engine's.
    HTTP_RID = "http_rid";
    ITER = "iter";
    TYPE = "type";
    NUM_SCHEDULED_TOKENS = "num_scheduled_tokens";
    NUM_PROMPT_TOKENS = "num_prompt_tokens";
    NUM_COMPUTED_TOKENS = "num_computed_tokens";
    NUM_SPEC_OUTPUT_TOKENS = "num_spec_output_tokens";
    NUM_SPEC_ACCEPTED_TOKENS = "num_spec_accepted_tokens";
    SPEC_DECODE_ACCEPTED_BY_REQ = "spec_decode_accepted_by_req";
    ACCEPTED_RATIO = "accepted_ratio";
    ACCEPTED_RATIO_PER_POS = "accepted_ratio_per_pos";
    BATCH_TYPE = "batch_type";
    BATCH_SIZE = "batch_size";
    QUEUE_SIZE = "QueueSize=";
    QUEUE_NAME = "scope#QueueName";
    TOTAL_BLOCKS = "TotalBlocks=";
    USED_BLOCKS = "UsedBlocks=";
    FREE_BLOCKS = "FreeBlocks=";
    USAGE_PERCENT = "UsagePercent=";
    ALLOCATED_BLOCKS = "AllocatedBlocks=";
    DEVICE_BLOCK = "deviceBlock=";
    HIT_CACHE = "hitCache";
    HIT_RATE = "hitRate=";
    RECV_TOKEN_SIZE = "recvTokenSize=";
    REPLY_TOKEN_SIZE = "replyTokenSize=";
    FULL_EVICTABLE_SIZE = "fullEvictableSize=";
    SWA_AVAILABLE_SIZE = "swaAvailableSize=";
    SWA_EVICTABLE_SIZE = "swaEvictableSize=";
    BOOTSTRAP_ROOM = "bootstrap_room";
    STREAM = "stream";
    /// When a request came in, in seconds since 1970.
    ARRIVAL = "arrival";
    /// Why a request has ended: `stop`, `length`, `abort` …
    REASON = "reason";
    /// Tokens that a step gave to its requests.
    NEW_TOKENS = "new_tokens";
}

/// A method's parameter, by its position (the instance has 0) or its name.
pub(super) fn argument<'py>(
    call: &Call<'_, 'py>,
    index: usize,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let value = call.args.get(index, name).map(pyo3::Borrowed::to_owned);
    value.ok_or_else(|| error::<PyTypeError>(format!("called without `{name}`")))
}

/// A datum that objects of some version may lack: then it is left out, which is counted, and said once.
///
/// # Errors
/// It was interrupted.
pub(super) fn datum<T>(
    py: Python<'_>,
    what: &'static str,
    read: PyResult<T>,
) -> Result<Option<T>, Interrupt> {
    static MISSING: Lazy<Mutex<FxHashMap<&'static str, u64>>> = Lazy::new(Mutex::default);
    let error = match read.unless_interrupted(py)? {
        Ok(value) => return Ok(Some(value)),
        Err(error) => error,
    };
    // Not locked while the error is asked for its text, which is Python's to run.
    let count = {
        let mut missing = MISSING.lock();
        let count = missing.entry(what).or_default();
        *count += 1;
        *count
    };
    if count == 1 {
        let problem = message(py, &error)?;
        log::warn!("{what} could not be read and is left out: {problem}; this is said once");
    }
    // In the timeline, but not at every step.
    if count.is_power_of_two() {
        recorder::counter(Label::new("msprof_rs", &format!("missing: {what}")), Ticks::now(), count as f64);
    }
    Ok(None)
}

/// A call that may call its base's method of the same name, hooked too: just the outermost is recorded.
pub(super) struct Outermost(&'static LocalKey<Cell<bool>>);

impl Outermost {
    /// None: an outer one is running on this thread.
    pub(super) fn enter(inside: &'static LocalKey<Cell<bool>>) -> Option<Self> {
        (!inside.replace(true)).then_some(Self(inside))
    }
}

impl Drop for Outermost {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// The guard of [`Outermost`] for the function that it stands in; returns from that if there is an outer one.
macro_rules! outermost {
    () => {
        thread_local!(static INSIDE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
        let Some(_outermost) = crate::handlers::record::Outermost::enter(&INSIDE) else { return Ok(()) };
    };
}
pub(super) use outermost;

/// More items than any server has of anything: what gives so many may do so without end.
const MOST_ITEMS: usize = 1 << 20;

/// The items of a value, all of them or none; not those of an iterator, which are the server's.
pub(super) fn each<'py>(items: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    refuse_iterator(items)?;
    let mut all = Vec::new();
    // Not `collect`: that asks how many there are, which may be Python code, and swallows what it raises.
    for item in items.try_iter()? {
        all.push(item?);
        if all.len() == MOST_ITEMS {
            return Err(error::<PyTypeError>("it has too many items"));
        }
    }
    Ok(all)
}

/// A text, such as a request's id, which a client may have chosen.
pub(super) fn text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(utf8(value.cast::<PyString>()?).into_owned())
}

/// Begins a span around the original. None: nothing records, or the ring is full.
pub(super) fn begin(label: Label) -> Option<Open> {
    recorder::unmuted(|| recorder::begin(label))
}

/// Records a span of the call; `append` adds what it reads after the call, if that did not raise.
///
/// # Errors
/// What `append` raised. The span is recorded all the same.
pub(super) fn span(
    call: &mut Call<'_, '_>,
    label: Label,
    append: impl FnOnce(&Call<'_, '_>, &Bound<'_, PyAny>, &mut Attributes) -> PyResult<()>,
) -> PyResult<()> {
    let py = call.py;
    let open = begin(label);
    let result = call.proceed().cloned();
    let ticks = Ticks::now();
    let Some(open) = open else { return Ok(()) };
    with_buffer(|attributes| {
        let outcome = match (result, call.error()) {
            (Some(result), _) => caught(py, || append(call, &result, attributes)),
            (None, Some(error)) => {
                append_error(attributes, error, py);
                Ok(())
            }
            (None, None) => Ok(()),
        };
        if outcome.is_err() {
            attributes.truncate(0); // a list or mapping may not be whole
        }
        recorder::end(open, label, ticks, attributes.as_bytes());
        outcome
    })
}

/// Records an event with the attributes that `append` gives it.
pub(super) fn event(label: Label, ticks: Ticks, append: impl FnOnce(&mut Attributes)) {
    with_buffer(|attributes| {
        append(attributes);
        recorder::instant(label, ticks, attributes.as_bytes());
    });
}

/// Appends `rid` as a list of ids.
pub(super) fn append_ids<S: AsRef<str>>(attributes: &mut Attributes, ids: &[S]) {
    attributes.key(*RID).array(ids.len());
    ids.iter().for_each(|rid| attributes.id(rid.as_ref()));
}
