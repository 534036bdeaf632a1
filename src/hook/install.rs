//! Puts hooks on what a symbol names - in the function itself where CPython allows, else by an object in its place -
//! and takes them out again, which restores the very object that was there.

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::aliases::{Exchanges, has_other_holders};
use super::hooked::{Hook, Hooked};
#[cfg(Py_3_12)]
use super::in_place;
use super::place::{Place, attribute};
use super::wrapper;

#[cfg(Py_3_12)]
/// `MSPROF_FORCE_WRAPPER=1` uses the wrapper object also where functions could be hooked in place: so that both
/// are tested on every version.
static FORCE_WRAPPER: once_cell::sync::Lazy<bool> =
    once_cell::sync::Lazy::new(|| std::env::var("MSPROF_FORCE_WRAPPER").is_ok_and(|v| v == "1"));

/// A function that has had hooks, and how they got there.
enum Seat {
    #[cfg(Py_3_12)]
    InPlace(&'static Hooked),
    Object(Object),
}

/// An object that stands for a function.
struct Object {
    hooked: &'static Hooked,
    owner: Py<PyAny>,
    name: String,
    /// What stood there before; None: the class inherited it.
    former: Option<Py<PyAny>>,
    /// What stands there instead: the wrapper, or what holds it.
    raw: Py<PyAny>,
    wrapper: Py<PyAny>,
}

/// Everything that was ever hooked in this process.
#[derive(Default)]
pub(super) struct Seats {
    seats: Mutex<Vec<Seat>>,
}

impl Seats {
    /// Puts a hook on what was found. What stands elsewhere under another name goes to `aliases`.
    ///
    /// # Errors
    /// The attribute can't be set.
    pub(super) fn put(&self, place: &Place<'_>, hook: Hook, aliases: &mut Exchanges) -> PyResult<()> {
        let hook: &'static Hook = Box::leak(Box::new(hook));
        #[cfg(Py_3_12)]
        if !*FORCE_WRAPPER && place.own && place.callable.is_instance_of::<pyo3::types::PyFunction>() {
            let function = place.callable.as_ptr();
            let hooked = in_place::find(function).unwrap_or_else(|| {
                let hooked = Hooked::new(&place.callable, false);
                self.seats.lock().push(Seat::InPlace(hooked));
                hooked
            });
            hooked.add(hook);
            // SAFETY: a Python function; its hooks hold a reference that is never given up.
            unsafe { in_place::install(function, hooked) };
            return Ok(());
        }
        if place.own
            && let Some(hooked) = wrapper::hooked_of(&place.callable)
        {
            hooked.add(hook);
            return Ok(());
        }
        let object = self.seat(place)?;
        object.hooked.add(hook);
        let py = place.owner.py();
        let (raw, wrapper) = (object.raw.bind(py), object.wrapper.bind(py));
        // Those who hold them now: the owner, the place (twice if it is the bare callable) and the hooks.
        let is_bare = place.raw.is(&place.callable);
        let has_aliases = place.own
            && (has_other_holders(&place.callable, 3 + isize::from(is_bare))
                || !is_bare && has_other_holders(&place.raw, 2));
        place.owner.setattr(place.name.as_str(), raw)?;
        if has_aliases {
            aliases.add(&place.callable, wrapper);
            aliases.add(&place.raw, raw);
        }
        self.seats.lock().push(Seat::Object(object));
        Ok(())
    }

    /// Makes the object that is to stand there.
    fn seat(&self, place: &Place<'_>) -> PyResult<Object> {
        let py = place.owner.py();
        let (hooked, wrapper) = if let Some(former) = self.take_former(place) {
            // Its wrapper may still be in the hands of others, so it is used again.
            (former.hooked, former.wrapper.into_bound(py))
        } else {
            let hooked = Hooked::new(&place.callable, place.is_bare_in_class());
            (hooked, wrapper::wrap(py, hooked)?)
        };
        let raw = place.in_shell(wrapper.clone())?;
        Ok(Object {
            hooked,
            owner: place.owner.clone().unbind(),
            name: place.name.clone(),
            former: place.own.then(|| place.raw.clone().unbind()),
            raw: raw.unbind(),
            wrapper: wrapper.unbind(),
        })
    }

    /// The seat of the same function in the same place, which it has left since.
    fn take_former(&self, place: &Place<'_>) -> Option<Object> {
        let mut seats = self.seats.lock();
        let index = seats.iter().position(|seat| match seat {
            #[cfg(Py_3_12)]
            Seat::InPlace(_) => false,
            Seat::Object(object) => object.was_at(place),
        })?;
        match seats.remove(index) {
            #[cfg(Py_3_12)]
            Seat::InPlace(_) => None,
            Seat::Object(object) => Some(object),
        }
    }

    /// No hook acts any more; the functions stay prepared for those that come.
    pub(super) fn clear(&self) {
        for seat in &*self.seats.lock() {
            seat.hooked().set_hooks(Vec::new());
        }
    }

    /// Makes every function without a hook what it was.
    pub(super) fn take_out_unused(&self, py: Python<'_>) -> PyResult<()> {
        let mut aliases = Exchanges::default();
        // The list is not locked while Python runs, which may import a module that is to be hooked.
        let seats = std::mem::take(&mut *self.seats.lock());
        // The last one first: a property's getter and setter may both have one.
        for seat in seats.iter().rev().filter(|seat| seat.hooked().hooks().is_empty()) {
            match seat {
                #[cfg(Py_3_12)]
                // SAFETY: it was put there by `put`.
                Seat::InPlace(hooked) => unsafe { in_place::remove(hooked) },
                Seat::Object(object) => {
                    if let Err(error) = object.take_out(py, &mut aliases) {
                        // This runs in a thread of our own, in which nobody is interrupted.
                        log::warn!("{}.{} can't be restored: {error}", object.owner, object.name);
                    }
                }
            }
        }
        self.seats.lock().extend(seats);
        aliases.apply(py)
    }
}

impl Seat {
    fn hooked(&self) -> &'static Hooked {
        match self {
            #[cfg(Py_3_12)]
            Self::InPlace(hooked) => hooked,
            Self::Object(object) => object.hooked,
        }
    }
}

impl Object {
    fn was_at(&self, place: &Place<'_>) -> bool {
        self.owner.is(&place.owner)
            && self.name == place.name
            && self.former.is_some() == place.own
            && self.hooked.target(place.owner.py()).is(&place.callable)
    }

    /// Puts back what was there, unless somebody else has put something there since.
    fn take_out(&self, py: Python<'_>, aliases: &mut Exchanges) -> PyResult<()> {
        let owner = self.owner.bind(py);
        let (present, own) = attribute(owner, &self.name)?;
        if !own || !present.is(&self.raw) {
            return Ok(());
        }
        match &self.former {
            Some(former) => {
                owner.setattr(self.name.as_str(), former)?;
                aliases.add(self.raw.bind(py), former.bind(py));
            }
            None => owner.delattr(self.name.as_str())?,
        }
        aliases.add(self.wrapper.bind(py), &self.hooked.target(py));
        Ok(())
    }
}
