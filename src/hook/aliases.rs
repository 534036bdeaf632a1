//! Other names for what an object has taken the place of: `from module import function`, `method = Other.method` in
//! a class. They are changed where that is safe, which is in module globals and class dictionaries. Copies in
//! closures, tables and default values stay as they are.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString, PyType};
use rustc_hash::{FxHashMap, FxHashSet};

use super::attributes;
use super::interrupt::Attempt;
use super::system;

/// Objects that others take the place of.
#[derive(Default)]
pub(super) struct Exchanges {
    pairs: Vec<(Py<PyAny>, Py<PyAny>)>,
    /// Functions that classes may call unseen under other names.
    #[cfg(Py_3_13)]
    inlined: FxHashSet<*mut ffi::PyObject>,
}

impl Exchanges {
    /// `to` shall stand wherever `from` does.
    pub(super) fn add(&mut self, from: &Bound<'_, PyAny>, to: &Bound<'_, PyAny>) {
        self.pairs.push((from.clone().unbind(), to.clone().unbind()));
    }

    /// Wherever a class calls a function unseen, an object shall stand before it. The caller keeps the function alive.
    #[cfg(Py_3_13)]
    pub(super) fn add_inlined(&mut self, function: &Bound<'_, PyAny>) {
        self.inlined.insert(function.as_ptr());
    }

    /// No code that runs already can have met the functions of a module that has just been made. Where else they are
    /// called unseen is noticed at their first call.
    #[cfg(Py_3_13)]
    pub(super) fn are_new(&mut self) {
        self.inlined.clear();
    }

    /// Goes once through all modules and the classes in them.
    pub(super) fn apply(self, py: Python<'_>) -> PyResult<()> {
        #[cfg(Py_3_13)]
        let is_idle = self.pairs.is_empty() && self.inlined.is_empty();
        #[cfg(not(Py_3_13))]
        let is_idle = self.pairs.is_empty();
        if is_idle {
            return Ok(());
        }
        let to: FxHashMap<_, _> = self.pairs.iter().map(|(from, to)| (from.as_ptr(), to.bind(py))).collect();
        let mut classes = Classes::default();
        let modules = system::modules(py)?;
        for module in modules.copy()?.values() {
            let Ok(module) = module.cast_into::<PyModule>() else { continue };
            let globals = module.dict();
            let mut found = Vec::new();
            for (name, value) in globals.iter() {
                match to.get(&value.as_ptr()) {
                    Some(to) => found.push((name, *to)),
                    None => classes.add(value),
                }
            }
            for (name, to) in found {
                globals.set_item(name, to)?;
            }
        }
        while let Some(class) = classes.waiting.pop() {
            for item in attributes::of(&class)?.items()?.iter() {
                let (name, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
                #[cfg(Py_3_13)]
                if let Err(error) = super::inlined::stand_before_use(&class, &name, &value, |used| {
                    self.inlined.contains(&used.as_ptr())
                }) {
                    log::warn!("{class}.{name}: its calls by code that runs often are not seen: {error}");
                }
                let Some(to) = to.get(&value.as_ptr()) else {
                    classes.add(value);
                    continue;
                };
                // A class may refuse; then this stays as it is.
                if let Ok(name) = name.cast::<PyString>() {
                    attributes::set(&class, name, to).optional(py)?;
                }
            }
        }
        Ok(())
    }
}

/// Classes that were met, each once.
#[derive(Default)]
struct Classes<'py> {
    met: FxHashSet<*mut ffi::PyObject>,
    waiting: Vec<Bound<'py, PyType>>,
}

impl<'py> Classes<'py> {
    fn add(&mut self, value: Bound<'py, PyAny>) {
        if let Ok(class) = value.cast_into::<PyType>()
            && self.met.insert(class.as_ptr())
        {
            self.waiting.push(class);
        }
    }
}

/// Whether somebody beside those `known` holds a reference: else there is no alias to look for.
pub(super) fn has_other_holders(object: &Bound<'_, PyAny>, known: isize) -> bool {
    // SAFETY: alive, and the interpreter's lock is held.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) > known }
}
