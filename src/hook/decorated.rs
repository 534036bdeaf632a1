//! A timer on a function of the user's own, which no symbol names.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use pyo3::prelude::*;

use super::follow::Trampoline;
use super::hooked::{Action, Hook, Hooked, Kind, Until};
use super::wrapper;
use crate::event::Label;
use crate::recorder::Gate;

/// The numbers of these hooks lie behind those of all entries of a table: they are outside.
static NEXT: AtomicUsize = AtomicUsize::new(usize::MAX / 2);

/// Puts a timer on a function, for good: in the function itself where CPython allows. Gives what is to stand for it.
///
/// # Errors
/// `inspect` can't tell what it is.
pub(crate) fn time<'py>(
    function: &Bound<'py, PyAny>,
    label: Label,
    gate: &'static Gate,
) -> PyResult<Bound<'py, PyAny>> {
    let kind = Kind::of(function)?;
    let until = match kind {
        Kind::Function => Until::Return,
        _ => Until::End(Trampoline::new(function, kind)?),
    };
    let hook: &'static Hook = Box::leak(Box::new(Hook {
        entry: NEXT.fetch_add(1, Ordering::Relaxed),
        label,
        gate,
        caller: None,
        object: None,
        action: Action::Timer(Vec::new()),
        is_plain_timer: matches!(until, Until::Return),
        until,
        sample: 1,
        calls: AtomicU32::new(0),
        dump_over: None,
        symbol: label.name().as_str().to_owned(),
        failures: AtomicU32::new(0),
        has_spoken: AtomicBool::new(false),
    }));
    #[cfg(Py_3_12)]
    if function.is_instance_of::<pyo3::types::PyFunction>() {
        let address = function.as_ptr();
        let hooked = super::in_place::find(address).unwrap_or_else(|| Hooked::new(function, false));
        hooked.add(hook);
        // SAFETY: a Python function; its hooks hold a reference that is never given up.
        unsafe { super::in_place::install(address, hooked) };
        return Ok(function.clone());
    }
    let hooked = Hooked::new(function, true);
    hooked.add(hook);
    wrapper::wrap(function.py(), hooked)
}
