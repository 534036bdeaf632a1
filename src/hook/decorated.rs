//! A timer on a function of the user's own, which no symbol names.
//!
//! What is put on a function goes with it. The hook itself stays, one for all functions of the same name: a program may
//! decorate closures for ever.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32};

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::follow::Trampoline;
use super::hooked::{Action, Hook, Kind, Origin, Until};
#[cfg(Py_3_12)]
use super::in_place;
#[cfg(Py_3_13)]
use super::inlined;
use super::wrapper;
use crate::event::Label;
use crate::recorder::Gate;

/// Puts a timer on a function: in the function itself where CPython allows. Gives what is to stand for it.
///
/// # Errors
/// `inspect` can't tell what it is.
pub(crate) fn time<'py>(
    function: &Bound<'py, PyAny>,
    label: Label,
    gate: &'static Gate,
) -> PyResult<Bound<'py, PyAny>> {
    let hook = timer(function, label, gate)?;
    #[cfg(Py_3_12)]
    {
        let bare = wrapper::past_stand_in(function.clone());
        if in_place::can_have(&bare) {
            in_place::hooked(&bare)?.add_decorator(hook);
            in_place::install(&bare);
            #[cfg(Py_3_13)]
            if bare.is(function) && inlined::is_initializer(function)? {
                return wrapper::stand_before(function);
            }
            return Ok(function.clone());
        }
    }
    let (wrapper, hooked) = wrapper::wrap(function)?;
    hooked.add_decorator(hook);
    Ok(wrapper)
}

/// What tells one timer from another: the label, the gate, the kind, and by whose name what it makes is followed.
type Key = (u32, usize, Kind, usize);

/// The timer for functions like this one.
fn timer(function: &Bound<'_, PyAny>, label: Label, gate: &'static Gate) -> PyResult<&'static Hook> {
    static TIMERS: Mutex<BTreeMap<Key, &'static Hook>> = Mutex::new(BTreeMap::new());
    let kind = Kind::of(function)?;
    let (until, maker) = if kind == Kind::Function {
        (Until::Return, 0)
    } else {
        let trampoline = Trampoline::new(function, kind)?;
        let address = trampoline.address();
        (Until::End(trampoline), address)
    };
    let make = || {
        let hook = Hook {
            origin: Origin::Decorator,
            label,
            gate,
            caller: None,
            receiver: None,
            action: Action::Timer(Vec::new()),
            is_plain_timer: matches!(until, Until::Return),
            until,
            sample: 1,
            calls: AtomicU32::new(0),
            dump_over: None,
            symbol: label.name().as_str().to_owned(),
            failures: AtomicU32::new(0),
            has_spoken: AtomicBool::new(false),
        };
        &*Box::leak(Box::new(hook))
    };
    Ok(TIMERS
        .lock()
        .entry((label.index(), std::ptr::from_ref(gate).addr(), kind, maker))
        .or_insert_with(make))
}
