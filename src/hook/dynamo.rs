//! `torch.compile` and what stands for a function: its tracer, Dynamo, is told what to trace instead, once both are
//! there. Nothing of torch is imported for it.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use super::imports::is_initializing;
use super::interrupt::{Attempt, Interrupt, message};
use super::{system, wrapper};

/// The last of Dynamo's modules that has to be there.
pub(super) const MODULE: &str = "torch._dynamo.variables.builder";

/// Tells Dynamo, if it is loaded and there is anything to tell. `loaded` is the module that has just been loaded.
///
/// # Errors
/// It was interrupted.
pub(super) fn teach(py: Python<'_>, loaded: &str) -> Result<(), Interrupt> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.load(Ordering::Relaxed)
        || !wrapper::is_used(py)
        || !is_loaded(py, loaded).optional(py)?.unwrap_or(false)
        || DONE.swap(true, Ordering::Relaxed)
    {
        return Ok(());
    }
    let taught = system::import(py, "msprof_rs._dynamo").and_then(|teacher| teacher.call_method0("teach"));
    if let Err(error) = taught.unless_interrupted(py)? {
        let problem = message(py, &error)?;
        log::warn!(
            "this version of torch is unknown: torch.compile may refuse code that calls what is hooked: {problem}"
        );
    }
    Ok(())
}

fn is_loaded(py: Python<'_>, just_loaded: &str) -> PyResult<bool> {
    if just_loaded == MODULE {
        return Ok(true);
    }
    let module = system::modules(py)?.get_item(MODULE)?;
    Ok(module.map(|module| is_initializing(&module)).transpose()? == Some(false))
}
