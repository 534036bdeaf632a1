//! What is recorded of something that has run to its end.

use once_cell::sync::Lazy;
use pyo3::exceptions::PyGeneratorExit;
use pyo3::prelude::*;

use crate::clock::{Ticks, duration};
use crate::event::{Attributes, Name};
use crate::hook::args::{Args, OwnedArgs};
use crate::hook::call::{append_error, append_kind, with_buffer};
use crate::hook::evaluate::Evaluated;
use crate::hook::hooked::{Hook, Kind};
use crate::hook::interrupt::Interrupt;
use crate::hook::pending::Pending;
use crate::recorder::{self, AsyncOpen};

static ACTIVE_NS: Lazy<Name> = Lazy::new(|| Name::new("active_ns"));
static SUSPENSIONS: Lazy<Name> = Lazy::new(|| Name::new("suspensions"));
static ITEMS: Lazy<Name> = Lazy::new(|| Name::new("items"));
static FIRST_ITEM_NS: Lazy<Name> = Lazy::new(|| Name::new("first_item_ns"));

/// What is recorded.
pub(crate) enum Ending {
    /// A span with these attributes. It begins with the first step, unless it has begun before.
    Timer(&'static [Evaluated], Option<OwnedArgs>, Option<AsyncOpen>),
    /// The span of a `with` block whose context manager is a generator, with these attributes.
    Block(&'static [Evaluated], Option<OwnedArgs>, Option<AsyncOpen>),
    /// Whatever a built-in handler makes of it.
    Handler(Box<dyn Follower>),
}

/// A built-in handler's view of a coroutine.
pub(crate) trait Follower: Send {
    /// The coroutine takes its first step now, in the context of the task that runs it.
    fn started(&mut self, py: Python<'_>) -> PyResult<()>;

    /// Whether it wants to know of each item of an asynchronous generator.
    fn wants_items(&self) -> bool {
        false
    }

    /// The generator has given an item.
    fn item(&mut self, _: Ticks) {}

    /// It has ended: with this result, or with this exception.
    fn ended(
        self: Box<Self>,
        py: Python<'_>,
        outcome: Result<&Bound<'_, PyAny>, &PyErr>,
        ticks: Ticks,
    ) -> PyResult<()>;
}

/// How it ended.
#[derive(Clone, Copy)]
pub(super) enum Outcome<'a, 'py> {
    Returned(&'a Bound<'py, PyAny>),
    Raised(&'a PyErr),
    /// Its user wanted no more of it.
    Closed,
}

/// What it did meanwhile, in ticks.
#[derive(Clone, Copy)]
pub(super) struct Activity {
    pub(super) active: u64,
    /// Suspensions of a coroutine, items of a generator.
    pub(super) count: u64,
    /// From the first step to the first item.
    pub(super) first: Option<u64>,
}

impl Activity {
    fn append(self, kind: Kind, attributes: &mut Attributes) {
        let nanos = |ticks| duration(ticks).0 as i64;
        attributes.key(*ACTIVE_NS).int(nanos(self.active));
        if kind == Kind::Coroutine {
            attributes.key(*SUSPENSIONS).int(self.count as i64);
            return;
        }
        attributes.key(*ITEMS).int(self.count as i64);
        if let Some(first) = self.first {
            attributes.key(*FIRST_ITEM_NS).int(nanos(first));
        }
    }
}

/// Records the span of a timer.
///
/// # Errors
/// The evaluation of its attributes was interrupted. The span is recorded all the same.
pub(super) fn record(
    py: Python<'_>,
    hook: &'static Hook,
    (attributes, args): (&'static [Evaluated], Option<&OwnedArgs>),
    open: AsyncOpen,
    ticks: Ticks,
    outcome: Outcome<'_, '_>,
    activity: Option<(Kind, Activity)>,
) -> Result<(), Interrupt> {
    with_buffer(|buffer| {
        let kind = activity.map(|(kind, _)| kind);
        let is_generator = matches!(kind, Some(Kind::Generator | Kind::AsyncGenerator));
        match outcome {
            // To close a generator early is what `break` does; a coroutine is not closed for nothing.
            Outcome::Raised(error) if is_generator && error.is_instance_of::<PyGeneratorExit>(py) => {}
            Outcome::Raised(error) => append_error(buffer, error, py),
            Outcome::Closed if kind == Some(Kind::Coroutine) => {
                append_kind(buffer, &py.get_type::<PyGeneratorExit>());
            }
            Outcome::Closed | Outcome::Returned(_) => {}
        }
        if let Some((kind, activity)) = activity {
            activity.append(kind, buffer);
        }
        let evaluated = args.map_or(Ok(()), |args| {
            let result = match outcome {
                Outcome::Returned(value) => Some(value.as_borrowed()),
                Outcome::Raised(_) | Outcome::Closed => None,
            };
            hook.evaluate(py, attributes, args.borrow(), result, buffer)
        });
        recorder::async_end(open, hook.label, ticks, buffer.as_bytes());
        evaluated
    })
}

/// Records the span of a call that failed to make anything, with this exception.
///
/// # Errors
/// As [`record`].
pub(in crate::hook) fn record_failure(
    py: Python<'_>,
    hook: &'static Hook,
    attributes: &'static [Evaluated],
    args: Args<'_>,
    open: AsyncOpen,
    error: &Pending<'_>,
) -> Result<(), Interrupt> {
    let ticks = Ticks::now();
    with_buffer(|buffer| {
        if let Some(kind) = error.kind() {
            append_kind(buffer, &kind);
        }
        let evaluated = hook.evaluate(py, attributes, args, None, buffer);
        recorder::async_end(open, hook.label, ticks, buffer.as_bytes());
        evaluated
    })
}
