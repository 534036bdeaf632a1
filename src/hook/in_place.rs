//! Hooks inside the function object itself (CPython ≥ 3.12): its vectorcall entry becomes ours. Aliases, bound methods,
//! `super()`, pickling and introspection see the same function as before.
//!
//! What is known of a function goes with it: a weak reference tells of its death.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::PySystemError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyFunction;
use rustc_hash::FxHashMap;

use super::failure::error;
use super::hooked::Hooked;

// SAFETY: as CPython declares it.
unsafe extern "C" {
    fn PyFunction_SetVectorcall(function: *mut ffi::PyObject, entry: ffi::vectorcallfunc);
}

/// `MSPROF_FORCE_WRAPPER=1` uses the wrapper object also where functions could be hooked in place: so that both
/// are tested on every version.
static FORCE_WRAPPER: once_cell::sync::Lazy<bool> =
    once_cell::sync::Lazy::new(|| std::env::var("MSPROF_FORCE_WRAPPER").is_ok_and(|v| v == "1"));

/// Hooked functions by address: open addressing, at most half full. Read and changed with the interpreter's lock held,
/// so never by two at once.
struct Table {
    slots: Box<[Slot]>,
}

#[derive(Default)]
struct Slot {
    function: AtomicPtr<ffi::PyObject>,
    hooked: AtomicPtr<Hooked>,
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

/// The weak references that tell of a function's death: reference and function by address.
static WATCHES: Mutex<Watches> = Mutex::new(Watches { functions: None, spent: None });

struct Watches {
    functions: Option<FxHashMap<usize, (Py<PyAny>, usize)>>,
    /// The last one that was called back: it may not be released while it is.
    spent: Option<Py<PyAny>>,
}

impl Table {
    fn new(size: usize) -> Self {
        Self { slots: (0..size.next_power_of_two()).map(|_| Slot::default()).collect() }
    }

    /// Where a function should be.
    #[inline]
    fn home(&self, function: *mut ffi::PyObject) -> usize {
        // Objects are aligned to 16 bytes, and neighbours in memory should not be neighbours here.
        (function.addr() >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize) >> 20 & (self.slots.len() - 1)
    }

    /// Where a function is, or the free slot where it would go.
    #[inline]
    fn find(&self, function: *mut ffi::PyObject) -> usize {
        let mut at = self.home(function);
        loop {
            let found = self.slots[at].function.load(Ordering::Relaxed);
            if found == function || found.is_null() {
                return at;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    fn count(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.function.load(Ordering::Relaxed).is_null()).count()
    }

    fn set(&self, at: usize, function: *mut ffi::PyObject, hooked: *mut Hooked) {
        self.slots[at].function.store(function, Ordering::Relaxed);
        self.slots[at].hooked.store(hooked, Ordering::Relaxed);
    }

    /// Takes a function out; those behind it move up where they were displaced by it.
    fn take(&self, function: *mut ffi::PyObject) -> *mut Hooked {
        let mut hole = self.find(function);
        let hooked = self.slots[hole].hooked.load(Ordering::Relaxed);
        let mask = self.slots.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let next = &self.slots[at];
            let moved = next.function.load(Ordering::Relaxed);
            if moved.is_null() {
                break;
            }
            let displaced = at.wrapping_sub(self.home(moved)) & mask;
            if displaced >= at.wrapping_sub(hole) & mask {
                self.set(hole, moved, next.hooked.load(Ordering::Relaxed));
                hole = at;
            }
        }
        self.set(hole, ptr::null_mut(), ptr::null_mut());
        hooked
    }
}

/// Whether a callable can be hooked in this way.
pub(super) fn can_have(callable: &Bound<'_, PyAny>) -> bool {
    !*FORCE_WRAPPER && callable.is_exact_instance_of::<PyFunction>()
}

/// What is on a function, if it has ever been hooked.
#[inline]
pub(super) fn find(function: *mut ffi::PyObject) -> Option<&'static Hooked> {
    // SAFETY: null, or a table that is only freed with the interpreter's lock held, as it is now; what it holds is
    // never freed.
    unsafe {
        let table = TABLE.load(Ordering::Relaxed).as_ref()?;
        table.slots[table.find(function)].hooked.load(Ordering::Relaxed).as_ref()
    }
}

/// The place for hooks on a function; [`install`] makes them act. It goes when the function does.
///
/// # Errors
/// No memory.
pub(super) fn hooked(function: &Bound<'_, PyAny>) -> PyResult<&'static Hooked> {
    let address = function.as_ptr();
    if let Some(hooked) = find(address) {
        return Ok(hooked);
    }
    watch(function)?;
    // SAFETY: alive; null, or the table.
    let (hooked, table) = unsafe { (Hooked::new(address), TABLE.load(Ordering::Relaxed).as_ref()) };
    let used = table.map_or(0, Table::count);
    let table = match table {
        Some(table) if (used + 1) * 2 <= table.slots.len() => table,
        former => grow(former, (used + 1) * 4),
    };
    table.set(table.find(address), address, ptr::from_ref(hooked).cast_mut());
    Ok(hooked)
}

/// Puts a larger table in place of the one that is there.
fn grow(former: Option<&'static Table>, size: usize) -> &'static Table {
    let larger = Box::leak(Box::new(Table::new(size)));
    for slot in former.into_iter().flat_map(|table| &*table.slots) {
        let function = slot.function.load(Ordering::Relaxed);
        if !function.is_null() {
            larger.set(larger.find(function), function, slot.hooked.load(Ordering::Relaxed));
        }
    }
    let former = TABLE.swap(larger, Ordering::Relaxed);
    if !former.is_null() {
        // SAFETY: made by this function. Nobody reads it: that takes the interpreter's lock, which is held.
        drop(unsafe { Box::from_raw(former) });
    }
    larger
}

/// Makes the hooks on a function act.
pub(super) fn install(function: &Bound<'_, PyAny>) {
    #[cfg(Py_3_13)]
    let entry = first_entry;
    // SAFETY: a Python function that is in the table, and an entry that behaves as its own does, which is what the call
    // asks for.
    unsafe { PyFunction_SetVectorcall(function.as_ptr(), entry) };
}

/// The first call of a function. It may show that later ones would not come here.
#[cfg(Py_3_13)]
unsafe extern "C" fn first_entry(
    function: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: this is a vectorcall of a function that is in the table.
    unsafe {
        PyFunction_SetVectorcall(function, entry);
        if nargsf & !ffi::PY_VECTORCALL_ARGUMENTS_OFFSET > 0 {
            // PyO3 has to know that it is attached, to release at once what is dropped here.
            let _ = Python::try_attach(|py| {
                let (function, this) = (Borrowed::from_ptr(py, function), Borrowed::from_ptr(py, *args));
                super::inlined::stand_before_uses(&function, &this);
            });
        }
        entry(function, args, nargsf, names)
    }
}

/// Gives a function its own entry back.
pub(super) fn remove(function: &Bound<'_, PyAny>) {
    if let Some(hooked) = find(function.as_ptr()) {
        // SAFETY: a Python function, since it is in the table; this is the entry that it had.
        unsafe { PyFunction_SetVectorcall(function.as_ptr(), hooked.entry()) };
    }
}

unsafe extern "C" fn entry(
    function: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    match find(function) {
        // SAFETY: this is a vectorcall.
        Some(hooked) => unsafe { hooked.call(args, nargsf, names) },
        // Not reached: a function that has this entry is in the table as long as it lives.
        None => raise("a hooked function is unknown"),
    }
}

#[cold]
fn raise(problem: &'static str) -> *mut ffi::PyObject {
    // SAFETY: callers hold the interpreter's lock.
    error::<PySystemError>(problem).restore(unsafe { Python::assume_attached() });
    ptr::null_mut()
}

/// Has [`died`] called when the function dies.
fn watch(function: &Bound<'_, PyAny>) -> PyResult<()> {
    static CALLBACK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = function.py();
    let callback = CALLBACK.get_or_try_init(py, || {
        let method = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: c"died".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: died },
            ml_flags: ffi::METH_O,
            ml_doc: ptr::null(),
        }));
        // SAFETY: the definition lives as long as the process.
        unsafe {
            let callback = ffi::PyCFunction_NewEx(method, ptr::null_mut(), ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, callback).map(Bound::unbind)
        }
    })?;
    // SAFETY: both are alive.
    let watch = unsafe {
        let watch = ffi::PyWeakref_NewRef(function.as_ptr(), callback.as_ptr());
        Bound::from_owned_ptr_or_err(py, watch)?
    };
    let key = watch.as_ptr().addr();
    let value = (watch.unbind(), function.as_ptr().expose_provenance());
    WATCHES.lock().functions.get_or_insert_default().insert(key, value);
    Ok(())
}

/// The callback of a weak reference to a function.
unsafe extern "C" fn died(_: *mut ffi::PyObject, watch: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls back with its lock held.
    let py = unsafe { Python::assume_attached() };
    let mut watches = WATCHES.lock();
    let known = watches.functions.as_mut().and_then(|functions| functions.remove(&watch.addr()));
    let released = known.map(|(watch, function)| (watches.spent.replace(watch), function));
    drop(watches);
    if let Some((spent, function)) = released {
        drop(spent);
        let function: *mut ffi::PyObject = ptr::with_exposed_provenance_mut(function);
        // The garbage collector takes weak references away before it runs finalizers, which may still call the
        // function or even keep it.
        // SAFETY: the memory is there until all callbacks have run.
        let survivor = unsafe { (ffi::Py_REFCNT(function) > 0).then(|| Borrowed::from_ptr(py, function)) };
        if !survivor.is_some_and(|survivor| watch_again(&survivor)) {
            forget(function);
        }
    }
    // SAFETY: None lives for ever.
    unsafe {
        ffi::Py_INCREF(ffi::Py_None());
        ffi::Py_None()
    }
}

fn watch_again(function: &Bound<'_, PyAny>) -> bool {
    let watched = watch(function);
    if watched.is_err() {
        remove(function);
    }
    watched.is_ok()
}

/// Nothing is known of a function any more.
fn forget(function: *mut ffi::PyObject) {
    // SAFETY: null, or the table, which is read with the interpreter's lock held.
    let table = unsafe { TABLE.load(Ordering::Relaxed).as_ref() };
    let hooked = table.map_or(ptr::null_mut(), |table| table.take(function));
    // SAFETY: null, or never freed.
    if let Some(hooked) = unsafe { hooked.as_ref() } {
        hooked.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found_whatever_was_taken_out() {
        let table = Table::new(64);
        let function = |n: usize| ptr::without_provenance_mut::<ffi::PyObject>((n + 1) * 16);
        let hooked = |n: usize| ptr::without_provenance_mut::<Hooked>((n + 1) * 64);
        let mut there = std::collections::BTreeSet::new();
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let n = (seed >> 33) as usize % 500;
            if there.remove(&n) {
                table.take(function(n));
            } else if there.len() < 32 {
                there.insert(n);
                table.set(table.find(function(n)), function(n), hooked(n));
            }
            assert_eq!(table.count(), there.len());
            for n in 0..500 {
                let found = table.slots[table.find(function(n))].hooked.load(Ordering::Relaxed);
                assert_eq!(found, if there.contains(&n) { hooked(n) } else { ptr::null_mut() });
            }
        }
    }
}
