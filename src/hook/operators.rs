//! What the operators and functions of expressions do: the same as Python's, but that nothing is taken from the program
//! or put into it, and that the size of what they make is bounded.

use pyo3::basic::CompareOp as Rich;
use pyo3::exceptions::PyKeyError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyNone, PySlice, PySliceMethods, PyString, PyTuple,
};

use super::failure::error_with;
use super::interrupt::Attempt;
use super::limits::{MOST_DIGITS, bits, check_bits, check_items, check_length, check_text, refused};
use super::text::utf8;
use super::value::elements;
use super::walk::{self, Base, Kind};
use crate::expr::{BinaryOp, CompareOp, UnaryOp};

pub(super) fn unary<'py>(op: UnaryOp, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match op {
        UnaryOp::Not => truth(value.py(), !value.is_truthy()?),
        UnaryOp::Negate | UnaryOp::Plus => {
            check_bits(bits(value)?.unwrap_or(0))?;
            check_items(elements(value)?.unwrap_or(0))?;
            if op == UnaryOp::Negate { value.neg() } else { value.pos() }
        }
    }
}

pub(super) fn binary<'py>(
    op: BinaryOp,
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    if let (Some(x), Some(y)) = (bits(a)?, bits(b)?) {
        check_bits(if op == BinaryOp::Multiply { x + y } else { x.max(y) })?;
    } else if !(is_number(a) && is_number(b)) {
        check_operands(op, a, b)?;
    }
    match op {
        BinaryOp::Add => a.add(b),
        BinaryOp::Subtract => a.sub(b),
        BinaryOp::Multiply => a.mul(b),
        BinaryOp::Divide => a.div(b),
        BinaryOp::FloorDivide => a.floor_div(b),
        BinaryOp::Remainder => a.rem(b),
    }
}

fn is_number(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyInt>() || value.is_instance_of::<PyFloat>()
}

/// # Errors
/// Containers, texts or arrays would make too large a result, or lose their items.
fn check_operands(op: BinaryOp, a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<()> {
    walk::refuse_iterator(a)?;
    walk::refuse_iterator(b)?;
    if check_elements(a, b)? {
        return Ok(());
    }
    if walk::is_iterable(a) && walk::is_iterable(b) {
        // Some containers add or subtract whatever can be walked.
        walk::check_gives_items_again(a)?;
        walk::check_gives_items_again(b)?;
    }
    let is_text = |value| Base::of(value).is_some_and(|base| base.kind == Kind::Text);
    let check = if is_text(a) || is_text(b) { check_length } else { check_items };
    match op {
        BinaryOp::Remainder if is_text(a) => check_format(a, b),
        BinaryOp::Multiply => match (length(a)?, length(b)?) {
            (Some(length), None) => check(length.saturating_mul(factor(b)?)),
            (None, Some(length)) => check(length.saturating_mul(factor(a)?)),
            _ => Ok(()),
        },
        _ => match (length(a)?, length(b)?) {
            (Some(x), Some(y)) => check(x.saturating_add(y)),
            _ => Ok(()),
        },
    }
}

/// Whether one is an array or tensor.
///
/// # Errors
/// An operation on all elements of both would make too many.
fn check_elements(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (x, y) = (elements(a)?, elements(b)?);
    check_items(x.unwrap_or(1).saturating_mul(y.unwrap_or(1)))?;
    Ok(x.is_some() || y.is_some())
}

/// The length of what has one.
fn length(value: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    if let Some(base) = Base::of(value) {
        return base.len(value).map(Some);
    }
    // SAFETY: a living object's type.
    let is_sized = unsafe {
        let kind = &*ffi::Py_TYPE(value.as_ptr());
        kind.tp_as_sequence.as_ref().is_some_and(|slots| slots.sq_length.is_some())
            || kind.tp_as_mapping.as_ref().is_some_and(|slots| slots.mp_length.is_some())
    };
    is_sized.then(|| value.len()).transpose()
}

/// How often a sequence is repeated by this; what is no number repeats nothing.
fn factor(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    // SAFETY: a living object.
    if unsafe { ffi::PyIndex_Check(value.as_ptr()) } == 0 {
        return Ok(0);
    }
    // SAFETY: as above; without an exception to raise, a number that is too large is the largest.
    let count = unsafe { ffi::PyNumber_AsSsize_t(value.as_ptr(), std::ptr::null_mut()) };
    if count == -1
        && let Some(error) = PyErr::take(value.py())
    {
        return Ok(Err(error).optional(value.py())?.unwrap_or(usize::MAX));
    }
    Ok(usize::try_from(count).unwrap_or(0))
}

/// `'…' % values`.
///
/// # Errors
/// The format asks for a mapping's items, which may add them, or for widths that are too large; or a value is neither a
/// number nor a text.
fn check_format(format: &Bound<'_, PyAny>, values: &Bound<'_, PyAny>) -> PyResult<()> {
    /// More digits in a row are no width that a person would read.
    const MOST_WIDTH_DIGITS: usize = 3;
    let text = if let Ok(text) = format.cast::<PyString>() {
        utf8(text).into_owned().into_bytes()
    } else if let Ok(bytes) = format.cast::<PyBytes>() {
        bytes.as_bytes().to_vec()
    } else {
        format.cast::<PyByteArray>()?.to_vec()
    };
    check_length(text.len())?;
    for specification in text.split(|byte| *byte == b'%').skip(1) {
        let end = specification.iter().position(u8::is_ascii_alphabetic).unwrap_or(specification.len());
        let flags = &specification[..end];
        let widths = flags.split(|byte| !byte.is_ascii_digit());
        if flags.contains(&b'*')
            || flags.contains(&b'(')
            || widths.into_iter().any(|digits| digits.len() > MOST_WIDTH_DIGITS)
        {
            return Err(refused("a format with `*`, a name, or a width above 999"));
        }
    }
    let check = |value: &Bound<'_, PyAny>| {
        let is_plain = value.is_exact_instance_of::<PyString>()
            || value.is_exact_instance_of::<PyInt>()
            || value.is_exact_instance_of::<PyFloat>()
            || value.is_exact_instance_of::<PyBool>()
            || value.is_exact_instance_of::<PyBytes>()
            || value.is_instance_of::<PyNone>();
        if !is_plain {
            return Err(refused(
                "a format of something else than texts and numbers; `str` makes a text of it",
            ));
        }
        check_text(value)
    };
    match values.cast::<PyTuple>() {
        Ok(values) => {
            check_items(values.len())?;
            values.iter().try_for_each(|value| check(&value))?;
            check_text(values.as_any())
        }
        Err(_) => check(values),
    }
}

pub(super) fn compare<'py>(
    op: CompareOp,
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = a.py();
    let rich = match op {
        CompareOp::Less => Rich::Lt,
        CompareOp::LessOrEqual => Rich::Le,
        CompareOp::Equal => Rich::Eq,
        CompareOp::NotEqual => Rich::Ne,
        CompareOp::Greater => Rich::Gt,
        CompareOp::GreaterOrEqual => Rich::Ge,
        CompareOp::In => return truth(py, walk::contains(b, a)?),
        CompareOp::NotIn => return truth(py, !walk::contains(b, a)?),
        CompareOp::Is => return truth(py, a.is(b)),
        CompareOp::IsNot => return truth(py, !a.is(b)),
    };
    if !(is_number(a) && is_number(b)) {
        check_elements(a, b)?;
        check_comparable(a, b)?;
    }
    a.rich_compare(b, rich)
}

/// # Errors
/// Both have too many items for a look at each. (Two containers are compared up to the end of the shorter.)
fn check_comparable(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<()> {
    let are_containers = |base: Base| !matches!(base.kind, Kind::Text | Kind::Range);
    match (Base::of(a).filter(|base| are_containers(*base)), Base::of(b)) {
        (Some(x), Some(y)) => check_items(x.len(a)?.min(y.len(b)?)),
        _ => Ok(()),
    }
}

/// `object[index]`. A mapping that makes up what it does not have, and keeps it, is not asked for that.
pub(super) fn item<'py>(
    object: &Bound<'py, PyAny>,
    index: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(slice) = index.cast::<PySlice>() {
        check_slice(object, slice)?;
    } else {
        walk::refuse_iterator(index)?;
        if walk::is_iterable(index) && elements(object)?.is_some() {
            return Err(refused("many elements of an array by a list of indices"));
        }
    }
    // A slice is a key too, from CPython 3.12 on.
    if makes_up_items(object)? && !object.contains(index)? {
        return Err(error_with::<PyKeyError>(index));
    }
    object.get_item(index)
}

/// Whether it has `__missing__`.
fn makes_up_items(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    // SAFETY: a living object. A class without `__getitem__` of its own has no use for `__missing__`.
    let is_plain = unsafe {
        let kind = ffi::Py_TYPE(object.as_ptr());
        std::ptr::eq(kind, &raw mut ffi::PyDict_Type)
            || ffi::PyType_HasFeature(kind, ffi::Py_TPFLAGS_LIST_SUBCLASS) != 0
            || ffi::PyType_HasFeature(kind, ffi::Py_TPFLAGS_TUPLE_SUBCLASS) != 0
            || ffi::PyType_HasFeature(kind, ffi::Py_TPFLAGS_UNICODE_SUBCLASS) != 0
    };
    if is_plain { Ok(false) } else { object.get_type().hasattr(intern!(object.py(), "__missing__")) }
}

/// # Errors
/// The slice would be a copy of too much.
fn check_slice(object: &Bound<'_, PyAny>, slice: &Bound<'_, PySlice>) -> PyResult<()> {
    let Some(base) = Base::of(object) else { return Ok(()) };
    if matches!(base.kind, Kind::Range | Kind::MemoryView) {
        return Ok(()); // no copy
    }
    let length = slice.indices(base.len(object)? as isize)?.slicelength;
    if base.kind == Kind::Text { check_length(length) } else { check_items(length) }
}

/// `str(value)`.
pub(crate) fn text<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    check_text(value)?;
    value.str()
}

/// `repr(value)`.
pub(super) fn representation<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    check_text(value)?;
    value.repr()
}

/// # Errors
/// `int(value)` or `round(value)` would have more digits than a person reads.
pub(super) fn check_integer(value: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Some(bits) = bits(value)? {
        return check_bits(bits);
    }
    if let Some(base) = Base::of(value) {
        let length = base.len(value)?;
        return if length > MOST_DIGITS {
            Err(refused(format!("an integer of {length} digits")))
        } else {
            Ok(())
        };
    }
    if value.is_instance_of::<PyFloat>() || value.getattr_opt(intern!(value.py(), "__float__"))?.is_none() {
        return Ok(());
    }
    let py = value.py();
    // Decimals and fractions can be larger than any memory.
    match value.extract::<f64>() {
        Ok(number) if number.is_infinite() => Err(refused("an integer of a number beyond 1e308")),
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyOverflowError>(py) => {
            Err(refused("an integer of a number beyond 1e308"))
        }
        outcome => outcome.map(drop),
    }
}

/// # Errors
/// `round(number, digits)` would calculate with a power of ten that is too large.
pub(super) fn check_rounding(digits: &Bound<'_, PyAny>) -> PyResult<()> {
    if digits.is_none() {
        return Ok(());
    }
    let digits: i64 = digits.extract()?;
    if digits.unsigned_abs() > MOST_DIGITS as u64 {
        return Err(refused(format!("`round` to {digits} digits")));
    }
    Ok(())
}

pub(super) fn truth(py: Python<'_>, value: bool) -> PyResult<Bound<'_, PyAny>> {
    Ok(value.into_pyobject(py)?.to_owned().into_any())
}
