//! Puts hooks on what a symbol names - in the function itself where CPython allows, else by an object in its place -
//! and takes them out again, which restores the very object that was there. Hooks of decorators stay.

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::aliases::{Exchanges, has_other_holders};
use super::hooked::{Hook, Hooked};
#[cfg(Py_3_12)]
use super::in_place;
#[cfg(Py_3_13)]
use super::inlined;
use super::modules::KeptModules;
use super::place::{Place, attribute};
use super::wrapper;

/// What symbols have hooked, and how.
enum Seat {
    #[cfg(Py_3_12)]
    InPlace(Shared),
    /// An object that a decorator has put there.
    Decorated(Shared),
    Object(Object),
}

/// What a decorator may have hooked too. A handler may go on after its call, so what symbols have hooked stays for
/// good.
struct Shared {
    hooked: &'static Hooked,
    #[cfg_attr(not(Py_3_12), expect(dead_code, reason = "keeps what is hooked alive"))]
    owner: Py<PyAny>,
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

/// Everything that symbols have ever hooked in this process.
#[derive(Default)]
pub(super) struct Seats {
    seats: Mutex<Vec<Seat>>,
    modules: KeptModules,
}

impl Seats {
    /// Puts a hook on what was found. What stands elsewhere under another name goes to `aliases`.
    ///
    /// # Errors
    /// The attribute can't be set.
    pub(super) fn put(&self, place: &Place<'_>, hook: Hook, aliases: &mut Exchanges) -> PyResult<()> {
        self.modules.keep(place)?;
        #[cfg(Py_3_12)]
        if place.own && in_place::can_have(&place.callable) {
            let hooked = in_place::hooked(&place.callable)?;
            hooked.add_symbol(hook);
            in_place::install(&place.callable);
            self.share(hooked, &place.callable, Seat::InPlace);
            // Those who hold it now: the owner, the place (twice if it is the bare callable) and the seat.
            #[cfg(Py_3_13)]
            if has_other_holders(&place.callable, 3 + isize::from(place.raw.is(&place.callable))) {
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
            hooked.add_symbol(hook);
            self.share(hooked, &place.callable, Seat::Decorated);
            return Ok(());
        }
        let object = self.seat(place)?;
        object.hooked.add_symbol(hook);
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

    /// Has calls of a function go through an object, where the interpreter would not come by its hooks.
    #[cfg(Py_3_13)]
    fn stand_before(&self, place: &Place<'_>, hooked: &'static Hooked) -> PyResult<()> {
        let former = self.take_former(place);
        let wrapper = match former {
            Some(former) => former.wrapper.into_bound(place.owner.py()),
            None => wrapper::stand_before(&place.callable)?,
        };
        let raw = place.in_shell(wrapper.clone())?;
        place.owner.setattr(place.name.as_str(), &raw)?;
        self.seats.lock().push(Seat::Object(Object {
            hooked,
            owner: place.owner.clone().unbind(),
            name: place.name.clone(),
            former: Some(place.raw.clone().unbind()),
            raw: raw.unbind(),
            wrapper: wrapper.unbind(),
        }));
        Ok(())
    }

    /// Remembers something that others may have hooked too.
    fn share(&self, hooked: &'static Hooked, owner: &Bound<'_, PyAny>, seat: fn(Shared) -> Seat) {
        let mut seats = self.seats.lock();
        if !seats.iter().any(|seat| std::ptr::eq(seat.hooked(), hooked)) {
            seats.push(seat(Shared { hooked, owner: owner.clone().unbind() }));
        }
    }

    /// Makes the object that is to stand there.
    fn seat(&self, place: &Place<'_>) -> PyResult<Object> {
        let py = place.owner.py();
        let (hooked, wrapper) = if let Some(former) = self.take_former(place) {
            // Its wrapper may still be in the hands of others, so it is used again.
            (former.hooked, former.wrapper.into_bound(py))
        } else {
            let (wrapper, hooked) = wrapper::wrap(&place.callable)?;
            (hooked, wrapper)
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
            Seat::Decorated(_) => false,
            Seat::Object(object) => object.was_at(place),
        })?;
        match seats.remove(index) {
            #[cfg(Py_3_12)]
            Seat::InPlace(_) => None,
            Seat::Decorated(_) => None,
            Seat::Object(object) => Some(object),
        }
    }

    /// No symbol's hook acts any more; the functions stay prepared for those that come.
    pub(super) fn clear(&self) {
        for seat in &*self.seats.lock() {
            seat.hooked().drop_symbols();
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
                Seat::InPlace(shared) => in_place::remove(shared.owner.bind(py)),
                // Whoever decorated it holds it.
                Seat::Decorated(_) => {}
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

/// Whether the entry of this number has hooked a place already.
pub(super) fn has_hook(place: &Place<'_>, entry: usize) -> bool {
    #[cfg(Py_3_12)]
    let in_place = in_place::find(place.callable.as_ptr());
    #[cfg(not(Py_3_12))]
    let in_place: Option<&Hooked> = None;
    let hooked = in_place.or_else(|| wrapper::hooked_of(&place.callable));
    place.own && hooked.is_some_and(|hooked| hooked.has_symbol(entry))
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
