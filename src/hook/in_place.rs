//! Hooks inside the function object itself (CPython ≥ 3.12): its vectorcall entry becomes ours. Aliases, bound methods,
//! `super()`, pickling and introspection see the same function as before.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use parking_lot::Mutex;
use pyo3::ffi;

use super::hooked::Hooked;

// SAFETY: as CPython declares it.
unsafe extern "C" {
    fn PyFunction_SetVectorcall(function: *mut ffi::PyObject, entry: ffi::vectorcallfunc);
}

/// Hooked functions by address: open addressing, at most half full, read without a lock. A table that gets too
/// small is replaced and never freed: a call may be reading it.
struct Table {
    slots: Box<[Slot]>,
}

#[derive(Default)]
struct Slot {
    function: AtomicPtr<ffi::PyObject>,
    hooked: AtomicPtr<Hooked>,
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

impl Table {
    fn new(size: usize) -> Self {
        Self { slots: (0..size.next_power_of_two()).map(|_| Slot::default()).collect() }
    }

    /// The slot of a function, or the free one where it would go.
    #[inline]
    fn slot(&self, function: *mut ffi::PyObject) -> &Slot {
        let mask = self.slots.len() - 1;
        // Objects are aligned to 16 bytes, and neighbours in memory should not be neighbours here.
        let mut at = (function.addr() >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize) >> 20 & mask;
        loop {
            let slot = &self.slots[at];
            let found = slot.function.load(Ordering::Acquire);
            if found == function || found.is_null() {
                return slot;
            }
            at = (at + 1) & mask;
        }
    }

    fn count(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.function.load(Ordering::Relaxed).is_null()).count()
    }

    fn insert(&self, function: *mut ffi::PyObject, hooked: *mut Hooked) {
        let slot = self.slot(function);
        slot.hooked.store(hooked, Ordering::Release);
        slot.function.store(function, Ordering::Release);
    }
}

/// The hooks that are on a function, if there are any.
#[inline]
pub(super) fn find(function: *mut ffi::PyObject) -> Option<&'static Hooked> {
    // SAFETY: null or a table that is never freed; what it holds are leaked boxes.
    unsafe {
        let table = TABLE.load(Ordering::Acquire).as_ref()?;
        table.slot(function).hooked.load(Ordering::Acquire).as_ref()
    }
}

/// Puts hooks on a function, in place of those that are on it.
///
/// # Safety
/// `function` is a Python function that is never freed, `hooked` describes it, and the interpreter's lock is held.
pub(super) unsafe fn install(function: *mut ffi::PyObject, hooked: &'static Hooked) {
    static WRITER: Mutex<()> = Mutex::new(());
    let _only = WRITER.lock();
    // SAFETY: as in `find`.
    let table = unsafe { TABLE.load(Ordering::Acquire).as_ref() };
    let used = table.map_or(0, Table::count);
    let table = match table {
        Some(table) if (used + 1) * 2 <= table.slots.len() => table,
        former => {
            let larger = Box::leak(Box::new(Table::new((used + 1) * 4)));
            for slot in former.into_iter().flat_map(|table| &*table.slots) {
                let function = slot.function.load(Ordering::Relaxed);
                if !function.is_null() {
                    larger.insert(function, slot.hooked.load(Ordering::Relaxed));
                }
            }
            TABLE.store(larger, Ordering::Release);
            larger
        }
    };
    table.insert(function, ptr::from_ref(hooked).cast_mut());
    // SAFETY: a Python function, and an entry that behaves as its own does, which is what the call asks for.
    unsafe { PyFunction_SetVectorcall(function, entry) };
}

/// Gives a function its own entry back. Its place in the table stays, for calls that are on their way.
///
/// # Safety
/// The interpreter's lock is held, and `hooked` has been installed.
pub(super) unsafe fn remove(hooked: &Hooked) {
    // SAFETY: a Python function, since it was installed; this is the entry that it had then.
    unsafe { PyFunction_SetVectorcall(hooked.target, hooked.entry) };
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
        // Not reached: an entry is set after its function is in the table, and neither is ever taken out.
        None => ptr::null_mut(),
    }
}
