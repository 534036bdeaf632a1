//! The Python function that makes what the caller gets: a copy for each target, with its name.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::Ending;
use super::slots::{finalized_after, make_fast};
use super::step::Step;
use crate::hook::failure::error;
use crate::hook::hooked::{Hook, Kind};
use crate::hook::interrupt::{Attempt, Interrupt, message};
use crate::hook::system;

/// Makes coroutines or generators that hand everything on to a [`Step`].
pub(in crate::hook) struct Trampoline {
    function: Py<PyAny>,
    kind: Kind,
}

impl Trampoline {
    /// By which it can be told from those for other names.
    pub(in crate::hook) fn address(&self) -> usize {
        self.function.as_ptr().addr()
    }

    /// For what calls of `target` make; a function that makes none of these may still return a coroutine.
    pub(in crate::hook) fn new(target: &Bound<'_, PyAny>, kind: Kind) -> PyResult<Self> {
        let (name, kind) = match kind {
            Kind::Coroutine | Kind::Function => ("coroutine", Kind::Coroutine),
            Kind::Generator => ("generator", kind),
            Kind::AsyncGenerator => ("async_generator", kind),
        };
        let py = target.py();
        make_fast(py);
        let module = system::import(py, "msprof_rs._follow")?;
        let function = module.call_method1("named_after", (module.getattr(name)?, target))?.unbind();
        Ok(Self { function, kind })
    }

    /// Follows what a call has made; gives it back as it is where that fails.
    ///
    /// # Errors
    /// It was interrupted.
    pub(in crate::hook) fn follow<'py>(
        &self,
        made: Bound<'py, PyAny>,
        hook: &'static Hook,
        ending: Ending,
    ) -> Result<Bound<'py, PyAny>, Interrupt> {
        let py = made.py();
        match self.stand_before(&made, hook, ending).unless_interrupted(py)? {
            Ok(followed) => Ok(followed),
            Err(error) => {
                let problem = message(py, &error)?;
                hook.say_once(|| format!("what it made is not followed: {problem}"));
                Ok(made)
            }
        }
    }

    fn stand_before<'py>(
        &self,
        made: &Bound<'py, PyAny>,
        hook: &'static Hook,
        ending: Ending,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = made.py();
        let step = Bound::new(py, Step::new(self.inner(made)?.unbind(), self.kind, hook, ending))?;
        finalized_after(made);
        // SAFETY: both objects are alive; gives a new reference, or null with an exception set.
        unsafe {
            let made = ffi::PyObject_CallOneArg(self.function.as_ptr(), step.as_ptr());
            let made = Bound::from_owned_ptr_or_err(py, made)?;
            step.get().give();
            Ok(made)
        }
    }

    /// What a [`Step`] can drive. Others than Python's own (such as Cython's) are so after `__await__`.
    fn inner<'py>(&self, made: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let object = made.as_ptr();
        // SAFETY: alive.
        let is_own = unsafe {
            match self.kind {
                Kind::Coroutine | Kind::Function => ffi::PyCoro_CheckExact(object),
                Kind::Generator => ffi::PyGen_CheckExact(object),
                Kind::AsyncGenerator => ffi::PyAsyncGen_CheckExact(object),
            }
        } == 1;
        if is_own {
            Ok(made.clone())
        } else if self.kind == Kind::Coroutine {
            made.call_method0(intern!(made.py(), "__await__"))
        } else {
            Err(error::<PyTypeError>(format!("a {} is none of Python's generators", made.get_type().name()?)))
        }
    }
}
