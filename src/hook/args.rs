//! The arguments of a call as CPython's vectorcall passes them, read without building a tuple or a dict.

use std::marker::PhantomData;
use std::ops::Range;

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::interrupt::is_text;

/// Borrowed arguments: positional ones (a method's instance first), then the values of the keyword ones.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a> {
    values: *const *mut ffi::PyObject,
    positional: usize,
    names: *mut ffi::PyObject,
    call: PhantomData<&'a ()>,
}

impl<'a> Args<'a> {
    /// # Safety
    /// The three are those of a vectorcall that does not return before `'a` ends.
    pub(crate) unsafe fn new(
        values: *const *mut ffi::PyObject,
        nargsf: usize,
        names: *mut ffi::PyObject,
    ) -> Self {
        let positional = nargsf & !ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        Self { values, positional, names, call: PhantomData }
    }

    /// Number of positional arguments.
    pub(crate) fn count(&self) -> usize {
        self.positional
    }

    /// The positional argument of that index.
    pub(crate) fn positional<'py>(&self, py: Python<'py>, index: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
        (index < self.positional).then(|| self.value(py, index))
    }

    /// The argument that was given by keyword.
    pub(crate) fn keyword<'py>(&self, name: &Bound<'py, PyString>) -> Option<Borrowed<'a, 'py, PyAny>> {
        let index = self.index_of_keyword(name)?;
        Some(self.value(name.py(), index))
    }

    /// Where the argument that was given by keyword is among all values.
    pub(super) fn index_of_keyword(&self, name: &Bound<'_, PyString>) -> Option<usize> {
        let names = self.names(name.py())?;
        // Names in code are interned, so that the same name is nearly always the same object.
        let same = |given: &Borrowed<'_, '_, PyAny>| given.is(name);
        let mut given = (0..names.len()).filter_map(|i| names.get_borrowed_item(i).ok().map(|n| (i, n)));
        let index = given
            .clone()
            .find(|(_, n)| same(n))
            .or_else(|| given.find(|(_, n)| n.cast::<PyString>().is_ok_and(|n| is_text(&n, name))))?
            .0;
        Some(self.positional + index)
    }

    /// The argument of a parameter that may be given by position or by keyword.
    pub(crate) fn get<'py>(
        &self,
        index: usize,
        name: &Bound<'py, PyString>,
    ) -> Option<Borrowed<'a, 'py, PyAny>> {
        self.positional(name.py(), index).or_else(|| self.keyword(name))
    }

    /// The names of the keyword arguments.
    pub(crate) fn names<'py>(&self, py: Python<'py>) -> Option<Borrowed<'a, 'py, PyTuple>> {
        if self.names.is_null() {
            return None;
        }
        // SAFETY: a vectorcall's names are a tuple that lives as long as the call.
        Some(unsafe { Borrowed::from_ptr(py, self.names).cast_unchecked::<PyTuple>() })
    }

    /// All values: the positional ones, then those of the keyword arguments, in the order of [`Args::names`].
    pub(crate) fn values<'py>(&self, py: Python<'py>) -> impl Iterator<Item = Borrowed<'a, 'py, PyAny>> {
        (0..self.len(py)).map(move |index| self.value(py, index))
    }

    /// The number of all values.
    pub(super) fn len(&self, py: Python<'_>) -> usize {
        self.positional + self.names(py).map_or(0, |names| names.len())
    }

    fn value<'py>(&self, py: Python<'py>, index: usize) -> Borrowed<'a, 'py, PyAny> {
        // SAFETY: callers keep `index` below the number of values, each of which lives as long as the call.
        unsafe { Borrowed::from_ptr(py, *self.values.add(index)) }
    }

    /// As they were passed.
    pub(super) fn raw(&self) -> (*const *mut ffi::PyObject, usize, *mut ffi::PyObject) {
        (self.values, self.positional, self.names)
    }
}

/// Arguments that outlive their call, for a coroutine whose attributes are evaluated when it ends. In the place of each
/// one that nothing will look at is a None: the program may want it gone.
pub(crate) struct OwnedArgs {
    values: Vec<Py<PyAny>>,
    positional: usize,
    names: Option<Py<PyTuple>>,
}

impl OwnedArgs {
    /// Those of a call, none of which is kept yet.
    pub(super) fn new(py: Python<'_>, args: Args<'_>) -> Self {
        let values = (0..args.len(py)).map(|_| py.None()).collect();
        let names = args.names(py).map(|names| names.to_owned().unbind());
        Self { values, positional: args.positional, names }
    }

    /// Keeps those of the call's values.
    pub(super) fn keep(&mut self, py: Python<'_>, args: Args<'_>, which: Range<usize>) {
        for (index, value) in args.values(py).enumerate().take(which.end).skip(which.start) {
            if let Some(place) = self.values.get_mut(index) {
                *place = value.to_owned().unbind();
            }
        }
    }

    /// For the garbage collector.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.values.iter().try_for_each(|value| visit.call(value))
    }

    pub(super) fn borrow(&self) -> Args<'_> {
        let names = self.names.as_ref().map_or(std::ptr::null_mut(), Py::as_ptr);
        // A `Py` is one pointer, so a slice of them is what a vectorcall takes.
        Args { values: self.values.as_ptr().cast(), positional: self.positional, names, call: PhantomData }
    }
}

const _: () = assert!(size_of::<Py<PyAny>>() == size_of::<*mut ffi::PyObject>());
