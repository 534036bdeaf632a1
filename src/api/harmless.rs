//! Nothing that users record with raises into their program, whatever it is given: a call that makes no sense has no
//! effect, and the log says so once for each line of the program that has one. What is no `Exception` goes on, such as
//! the `KeyboardInterrupt` that comes while a value is asked for its text.

use parking_lot::Mutex;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::hook::{Attempt, Interrupt, caught, contained, error, message, utf8};
use crate::recorder;

/// Lines of the program that are told of.
const MOST_PLACES: usize = 100;

/// What `attempt` gives; `otherwise` where it fails.
///
/// # Errors
/// What is no `Exception`.
pub(super) fn harmless<T>(
    py: Python<'_>,
    function: &'static str,
    attempt: impl FnOnce() -> PyResult<T>,
    otherwise: impl FnOnce() -> T,
) -> PyResult<T> {
    let outcome = contained(py, || match caught(py, attempt).unless_interrupted(py)? {
        Ok(value) => Ok(Some(value)),
        Err(error) => tell(py, function, "nothing is recorded", &error).map(|()| None),
    })?;
    Ok(outcome.flatten().unwrap_or_else(otherwise))
}

/// Says once for a line of the program what could not be done there, by which function of ours if that is known.
///
/// # Errors
/// The exception was asked for its text, and that was interrupted.
#[cold]
pub(super) fn tell(py: Python<'_>, function: &str, effect: &str, error: &PyErr) -> Result<(), Interrupt> {
    static PLACES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let _muted = recorder::mute();
    let place = place(py).optional(py)?.unwrap_or_else(|| "somewhere".into());
    let told = if function.is_empty() { place } else { format!("{place}: msprof_rs.{function}") };
    // Asked for before the lock is taken: it may be Python code that says it.
    let problem = message(py, error)?;
    let mut places = PLACES.lock();
    if places.len() < MOST_PLACES && !places.contains(&told) {
        log::warn!("{told}: {effect}: {problem}; this is said once");
        places.push(told);
    }
    Ok(())
}

/// The line of the program that is running.
fn place(py: Python<'_>) -> PyResult<String> {
    let mut frame = crate::hook::frame(py)?;
    let is_ours = |frame: &Bound<'_, PyAny>| {
        let module = frame.getattr("f_globals")?.get_item("__name__")?;
        PyResult::Ok(utf8(module.cast::<PyString>()?).starts_with("msprof_rs."))
    };
    while is_ours(&frame).unwrap_or(false) {
        frame = frame.getattr("f_back")?;
    }
    let file = frame.getattr("f_code")?.getattr("co_filename")?;
    let line: u32 = frame.getattr("f_lineno")?.extract()?;
    Ok(format!("{}:{line}", utf8(file.cast::<PyString>()?)))
}

/// The name of a span, an event, or a counter.
///
/// # Errors
/// It was not given, is no text, or is empty: timelines show nothing without a name.
pub(super) fn name<'a, 'py>(given: Option<&'a Bound<'py, PyAny>>) -> PyResult<&'a Bound<'py, PyString>> {
    let name = text(given, "name")?;
    if name.is_empty()? { Err(error::<PyTypeError>("the name is empty")) } else { Ok(name) }
}

/// A text that was given.
///
/// # Errors
/// It was not, or is no text.
pub(super) fn text<'a, 'py>(
    given: Option<&'a Bound<'py, PyAny>>,
    what: &str,
) -> PyResult<&'a Bound<'py, PyString>> {
    let given = given.ok_or_else(|| error::<PyTypeError>(format!("the {what} is missing")))?;
    given.cast::<PyString>().map_err(|_| error::<PyTypeError>(format!("the {what} is no text")))
}

/// Arguments that were given by position, with those in their place that were given by keyword.
///
/// # Errors
/// One was given twice, or more were given than `names`.
pub(super) fn complete<'py, const N: usize>(
    names: [&str; N],
    mut given: [Option<Bound<'py, PyAny>>; N],
    rest: &Bound<'py, PyTuple>,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<[Option<Bound<'py, PyAny>>; N]> {
    if let Some(keywords) = keywords {
        for (name, given) in names.iter().zip(&mut given) {
            // One that is there twice stays among the keywords.
            if given.is_none()
                && let Some(value) = keywords.get_item(name)?
            {
                keywords.del_item(name)?;
                *given = Some(value);
            }
        }
    }
    no_more(rest, keywords)?;
    Ok(given)
}

/// # Errors
/// More was given than a function takes.
pub(super) fn no_more(rest: &Bound<'_, PyTuple>, unknown: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
    if rest.is_empty() && unknown.is_none_or(PyDictMethods::is_empty) {
        return Ok(());
    }
    Err(error::<PyTypeError>("there are arguments that it does not take"))
}
