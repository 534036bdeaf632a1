//! The extension module `msprof_rs._core`: what the Python package is made of.

mod logging;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pyo3::exceptions::{PyImportError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::hook::{self, Attempt, Finder, Registry, follow_symbols, symbol_domains, thread_name};
use crate::symbols::Frameworks;
use crate::{api, cli, clock, forced_unwind, recorder};

/// Installs the hooks and starts the recorder. `config` is the collection config's path; `frameworks` has the
/// versions of the packages that are installed, `process_name` is the process's name, if they are known. Without
/// `hooks` only code that records by itself is seen.
#[pyfunction]
#[pyo3(signature = (config, home, symbols_path, frameworks, process_name, hooks))]
fn activate(
    py: Python<'_>,
    config: PathBuf,
    home: PathBuf,
    symbols_path: Option<PathBuf>,
    frameworks: Vec<(Bound<'_, PyString>, Option<Bound<'_, PyString>>)>,
    process_name: Option<&Bound<'_, PyAny>>,
    hooks: bool,
) -> PyResult<()> {
    logging::init();
    py.import("_signal")?; // it notes what each signal does, so that comes before a handler of ours
    let text = |text: &Bound<'_, PyString>| hook::utf8(text).into_owned();
    let frameworks: Vec<_> =
        frameworks.iter().map(|(name, version)| (text(name), version.as_ref().map(text))).collect();
    let process_name = process_name.map(hook::text_of).transpose().optional(py)?.flatten().as_ref().map(text);
    let before_start = follow_symbols;
    IS_CHILD.store(process_name.is_some(), Ordering::Relaxed);
    let domains = process_name.is_none().then_some(symbol_domains as fn() -> Vec<String>);
    let options = recorder::Options { config, home, process_name, thread_name, stamp, before_start, domains };
    hook::with_room(|| {
        ZONE.get_or_init(|| clock::time_zone(std::env::var("TZ").ok().as_deref()));
        recorder::activate(options.clone())
    })?;
    if !hooks {
        return Ok(());
    }
    Finder::install(py, Registry::open(symbols_path, Frameworks::new(frameworks)))
}

/// Writes everything and stops recording; called when the process ends.
#[pyfunction]
fn shutdown(py: Python<'_>) -> PyResult<()> {
    // A child of `multiprocessing` leaves that to the process that a user looks at.
    let told = if IS_CHILD.load(Ordering::Relaxed) { Ok(()) } else { hook::tell_unmet(py) };
    py.detach(recorder::shutdown);
    told
}

/// Whether this is a child of `multiprocessing`.
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Gives a forked child a recorder of its own.
#[pyfunction]
fn forked_child() -> PyResult<()> {
    Ok(recorder::forked_child()?)
}

/// Whether events are being collected now.
#[pyfunction]
fn is_recording() -> bool {
    recorder::is_recording()
}

/// Switches collection on or off, for all processes that share the config; waits until this one has followed. Gives
/// whether it has.
#[pyfunction]
fn switch(py: Python<'_>, on: bool) -> PyResult<bool> {
    py.detach(|| recorder::switch(on)).map_err(|error| hook::error::<PyRuntimeError>(error.to_string()))
}

/// Has the flight recorders of this server write what they remember; gives the folder.
#[pyfunction]
fn dump(py: Python<'_>, reason: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    let reason = hook::utf8(&reason.str()?).into_owned();
    py.detach(|| recorder::dump(&reason)).map_err(|error| hook::error::<PyRuntimeError>(error.to_string()))
}

/// The function that an object in its place stands for; None for any other object.
#[pyfunction]
fn stood_for<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    hook::stood_for(object)
}

/// The command line of `msprof-rs`; gives its exit code.
#[pyfunction]
fn cli_main(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<u8> {
    logging::init();
    let ours = py.import("msprof_rs._frameworks")?;
    let locate = |top: &str| {
        Python::attach(|py| py.import("msprof_rs._frameworks")?.call_method1("folder_of", (top,))?.extract())
            .unwrap_or_else(|error: PyErr| {
                log::warn!("{top} could not be looked for: {error}");
                None
            })
    };
    let file: PathBuf = ours.getattr("__file__")?.extract()?;
    let package = file.parent().map(Into::into).unwrap_or_default();
    let sys = py.import("sys")?;
    let executable: PathBuf = sys.getattr("executable")?.extract()?;
    // Python 3.10 has no such flag and always looks there.
    let is_path_safe =
        sys.getattr("flags")?.getattr_opt("safe_path")?.map_or(Ok(false), |it| it.is_truthy())?;
    let frameworks = ours.call_method0("installed")?.extract()?;
    Ok(py.detach(|| {
        let hooks_in_place = cfg!(Py_3_12);
        let installation = cli::Installation {
            locate: &locate,
            frameworks,
            is_path_safe,
            hooks_in_place,
            package,
            executable,
        };
        cli::main(arguments, &installation)
    }))
}

/// Read once, at the start: the flusher must not look at an environment that the program may be changing.
static ZONE: OnceLock<TimeZone> = OnceLock::new();

fn stamp() -> String {
    let zone = ZONE.get().cloned().unwrap_or(TimeZone::UTC);
    Timestamp::now().to_zoned(zone).strftime("%m%d-%H%M").to_string()
}

/// The Rust side of `msprof_rs`.
#[pymodule(gil_used = true)] // docs/threads.md says what would have to change
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    refuse_sub_interpreters()?; // before there is anything of ours that a sub-interpreter would take with it
    forced_unwind::let_pass();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(activate, module)?)?;
    module.add_function(wrap_pyfunction!(cli_main, module)?)?;
    module.add_function(wrap_pyfunction!(dump, module)?)?;
    module.add_function(wrap_pyfunction!(forked_child, module)?)?;
    module.add_function(wrap_pyfunction!(is_recording, module)?)?;
    module.add_function(wrap_pyfunction!(shutdown, module)?)?;
    module.add_function(wrap_pyfunction!(stood_for, module)?)?;
    module.add_function(wrap_pyfunction!(switch, module)?)?;
    module.add_function(wrap_pyfunction!(hook::quietly, module)?)?;
    module.add_function(wrap_pyfunction!(hook::returned, module)?)?;
    module.add_class::<api::Profiler>()?;
    module.add_class::<api::Span>()?;
    module.add_function(wrap_pyfunction!(api::timed, module)?)?;
    api::add_to(module)
}

/// What is static here (types, names, the recorder) belongs to one interpreter, and it has to be the one that lasts.
fn refuse_sub_interpreters() -> PyResult<()> {
    // SAFETY: the calling thread is attached to an interpreter: it imports this module.
    if unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() } {
        return Ok(());
    }
    Err(hook::error::<PyImportError>(
        "msprof_rs records the main interpreter only, and this is a sub-interpreter; \
         run the program in the main one (mod_wsgi: `WSGIApplicationGroup %{GLOBAL}`, uWSGI: `single-interpreter`)",
    ))
}
