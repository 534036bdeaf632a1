//! Puts hooks on what a symbol names - in the function itself where CPython allows, else by an object in its place -
//! and takes them out again, which restores the very object that was there. Hooks of decorators stay.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::aliases::{Exchanges, has_other_holders};
use super::attributes;
use super::hooked::{Hook, Hooked};
#[cfg(Py_3_12)]
use super::in_place;
#[cfg(Py_3_13)]
use super::inlined;
use super::place::{Place, attribute, leads_to};
use super::reference::Reference;
use super::wrapper;

/// What symbols have hooked, and how. It goes when the program lets go of it.
enum Seat {
    #[cfg(Py_3_12)]
    InPlace(Shared),
    /// An object that a decorator has put there.
    Decorated(Shared),
    Object(Object),
}

/// What a decorator may have hooked too.
struct Shared {
    hooked: &'static Hooked,
    /// The function, or the decorator's object.
    owner: Reference,
}

/// An object that stands for a function. The object keeps what stood there before.
struct Object {
    hooked: &'static Hooked,
    owner: Reference,
    name: String,
    /// Whether the owner had it itself; else it inherits it of a class that can't be changed.
    own: bool,
    /// The address of what stands there instead: the wrapper, or what holds it.
    raw: usize,
    wrapper: Reference,
}

/// Everything that symbols have hooked in this process and that is still there.
#[derive(Default)]
pub(super) struct Seats {
    /// Never locked while Python may run, which may import a module that is to be hooked.
    seats: Mutex<Vec<Arc<Seat>>>,
}

impl Seats {
    /// Puts a hook on what was found. What stands elsewhere under another name goes to `aliases`.
    ///
    /// # Errors
    /// The attribute can't be set.
    pub(super) fn put(&self, place: &Place<'_>, hook: Hook, aliases: &mut Exchanges) -> PyResult<()> {
        #[cfg(Py_3_12)]
        if place.own && in_place::can_have(&place.callable) {
            let hooked = in_place::hooked(&place.callable)?;
            hooked.add_symbol(place.callable.py(), hook);
            in_place::install(&place.callable);
            self.share(hooked, &place.callable, Seat::InPlace)?;
            // Those who hold it now: the owner and the place (twice if it is the bare callable).
            #[cfg(Py_3_13)]
            if has_other_holders(&place.callable, 2 + isize::from(place.raw.is(&place.callable))) {
                aliases.add_inlined(&place.callable);
            }
            #[cfg(Py_3_13)]
            if inlined::is_entered_unseen(place) {
                self.stand_before(place, hooked)?;
            }
            return Ok(());
        }
        if place.own
            && let Some(hooked) = wrapper::hooked_of(&place.callable)
        {
            hooked.add_symbol(place.callable.py(), hook);
            self.share(hooked, &place.callable, Seat::Decorated)?;
            return Ok(());
        }
        let (hooked, wrapper) = match self.take_former(place) {
            // It may still be in the hands of others, so it is used again.
            Some(former) => former,
            None => wrapper::wrap(&place.callable).map(|(wrapper, hooked)| (hooked, wrapper))?,
        };
        hooked.add_symbol(place.callable.py(), hook);
        let raw = place.in_shell(wrapper.clone())?;
        // Those who hold them now: the owner, the place (twice if it is the bare callable) and the hooks.
        let is_bare = place.raw.is(&place.callable);
        let has_aliases = place.own
            && (has_other_holders(&place.callable, 3 + isize::from(is_bare))
                || !is_bare && has_other_holders(&place.raw, 2));
        self.seat(place, hooked, &wrapper, &raw)?;
        if has_aliases {
            aliases.add(&place.callable, &wrapper);
            aliases.add(&place.raw, &raw);
        }
        Ok(())
    }

    /// Has calls of a function go through an object, where the interpreter would not come by its hooks.
    #[cfg(Py_3_13)]
    fn stand_before(&self, place: &Place<'_>, hooked: &'static Hooked) -> PyResult<()> {
        let wrapper = match self.take_former(place) {
            Some((_, former)) => former,
            None => wrapper::stand_before(&place.callable)?,
        };
        let raw = place.in_shell(wrapper.clone())?;
        self.seat(place, hooked, &wrapper, &raw)
    }

    /// Remembers something that others may have hooked too.
    fn share(
        &self,
        hooked: &'static Hooked,
        owner: &Bound<'_, PyAny>,
        seat: fn(Shared) -> Seat,
    ) -> PyResult<()> {
        // Those whose owner has gone may have left their place for hooks to this one.
        if !self.all().iter().any(|seat| seat.is_of(hooked, owner)) {
            let shared = Shared { hooked, owner: Reference::to(owner)? };
            self.seats.lock().push(Arc::new(seat(shared)));
        }
        Ok(())
    }

    /// Puts an object there, in the way in which the function was held.
    fn seat(
        &self,
        place: &Place<'_>,
        hooked: &'static Hooked,
        wrapper: &Bound<'_, PyAny>,
        raw: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        wrapper::keep_former(wrapper, place.own.then_some(&place.raw));
        let object = Object {
            hooked,
            owner: Reference::to(&place.owner)?,
            name: place.name.clone(),
            own: place.own,
            raw: raw.as_ptr().addr(),
            wrapper: Reference::to(wrapper)?,
        };
        attributes::set(&place.owner, &PyString::new(raw.py(), &place.name), raw)?;
        self.seats.lock().push(Arc::new(Seat::Object(object)));
        Ok(())
    }

    fn all(&self) -> Vec<Arc<Seat>> {
        self.seats.lock().clone()
    }

    fn forget(&self, is_gone: impl Fn(&Arc<Seat>) -> bool) {
        let mut seats = self.seats.lock();
        let (gone, there): (Vec<_>, _) = std::mem::take(&mut *seats).into_iter().partition(is_gone);
        *seats = there;
        drop(seats);
        drop(gone); // which may run Python
    }

    /// Forgets what the program has let go of.
    pub(super) fn forget_dead(&self, py: Python<'_>) {
        let dead: Vec<_> = self.all().into_iter().filter(|seat| !seat.is_there(py)).collect();
        if !dead.is_empty() {
            self.forget(|seat| dead.iter().any(|dead| Arc::ptr_eq(dead, seat)));
        }
    }

    /// The object of the same function in the same place, which it has left since, and its hooks.
    fn take_former<'py>(&self, place: &Place<'py>) -> Option<(&'static Hooked, Bound<'py, PyAny>)> {
        self.all().iter().find_map(|seat| {
            let Seat::Object(object) = &**seat else { return None };
            let wrapper = object.was_at(place)?;
            self.forget(|other| Arc::ptr_eq(other, seat));
            Some((object.hooked, wrapper))
        })
    }

    /// No symbol's hook acts any more; the functions stay prepared for those that come.
    pub(super) fn clear(&self) {
        for seat in &*self.seats.lock() {
            seat.hooked().drop_symbols();
        }
    }

    /// Makes every function without a hook what it was.
    pub(super) fn take_out_unused(&self, py: Python<'_>) -> PyResult<()> {
        self.forget_dead(py);
        let mut aliases = Exchanges::default();
        // The last one first: a property's getter and setter may both have one.
        for seat in self.all().iter().rev() {
            match &**seat {
                #[cfg(Py_3_12)]
                Seat::InPlace(shared) => {
                    if let Some(function) = shared.owner.get(py).filter(|_| shared.hooked.hooks().is_empty())
                    {
                        in_place::remove(&function);
                    }
                }
                // Whoever decorated it holds it.
                Seat::Decorated(_) => {}
                Seat::Object(object) => {
                    if let Err(error) = object.take_out(py, &mut aliases) {
                        // This runs in a thread of our own, in which nobody is interrupted.
                        log::warn!("{} can't be restored: {error}", object.name);
                    }
                }
            }
        }
        aliases.apply(py)
    }
}

/// Whether the entry of this number has hooked a place already.
pub(super) fn has_hook(place: &Place<'_>, entry: usize) -> bool {
    #[cfg(Py_3_12)]
    let in_place = in_place::find(place.callable.as_ptr());
    #[cfg(not(Py_3_12))]
    let in_place: Option<&Hooked> = None;
    let hooked = in_place.or_else(|| wrapper::hooked_of(&place.callable));
    let has_it = |hooked: &Hooked| hooked.has_symbol(place.callable.py(), entry, place.receiver.as_ref());
    place.own && hooked.is_some_and(has_it)
}

impl Seat {
    fn hooked(&self) -> &'static Hooked {
        match self {
            #[cfg(Py_3_12)]
            Self::InPlace(shared) => shared.hooked,
            Self::Decorated(shared) => shared.hooked,
            Self::Object(object) => object.hooked,
        }
    }

    /// Whether these hooks were put on this owner.
    fn is_of(&self, hooked: &'static Hooked, owner: &Bound<'_, PyAny>) -> bool {
        match self {
            #[cfg(Py_3_12)]
            Self::InPlace(shared) => std::ptr::eq(shared.hooked, hooked) && shared.owner.is(owner),
            Self::Decorated(shared) => std::ptr::eq(shared.hooked, hooked) && shared.owner.is(owner),
            Self::Object(_) => false,
        }
    }

    /// Whether the program still has what is hooked.
    fn is_there(&self, py: Python<'_>) -> bool {
        match self {
            #[cfg(Py_3_12)]
            Self::InPlace(shared) => shared.owner.get(py).is_some(),
            Self::Decorated(shared) => shared.owner.get(py).is_some(),
            Self::Object(object) => object.owner.get(py).is_some() && object.wrapper.get(py).is_some(),
        }
    }
}

impl Object {
    /// Its wrapper, if it stood for the very function in this place.
    fn was_at<'py>(&self, place: &Place<'py>) -> Option<Bound<'py, PyAny>> {
        let same = self.name == place.name && self.own == place.own && self.owner.is(&place.owner);
        let wrapper = self.wrapper.get(place.owner.py()).filter(|_| same)?;
        wrapper::stood_for(&wrapper)?.is(&place.callable).then_some(wrapper)
    }

    /// If it has no hooks any more, puts back what was there, unless somebody else has put something there since.
    fn take_out(&self, py: Python<'_>, aliases: &mut Exchanges) -> PyResult<()> {
        let (Some(owner), Some(wrapper)) = (self.owner.get(py), self.wrapper.get(py)) else { return Ok(()) };
        if !self.hooked.hooks().is_empty() {
            return Ok(());
        }
        let found = attribute(&owner, &self.name)?;
        let (is_own, present) = (found.own && found.heir.is_none(), found.raw);
        let name = PyString::new(py, &self.name);
        if !is_own || present.as_ptr().addr() != self.raw || !leads_to(&present, &wrapper) {
            return Ok(());
        }
        match wrapper::former(&wrapper) {
            Some(former) => {
                attributes::set(&owner, &name, &former)?;
                aliases.add(&present, &former);
            }
            None => attributes::remove(&owner, &name)?,
        }
        if let Some(function) = wrapper::stood_for(&wrapper) {
            aliases.add(&wrapper, &function);
        }
        Ok(())
    }
}
