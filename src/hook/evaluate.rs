//! Runs compiled expressions on the objects of a call. A failing expression leaves its attribute out, and is reported
//! once.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyException, PyIndexError, PyNameError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PySlice, PyString, PyTuple};
use pyo3::{PyTypeInfo, create_exception};

use super::args::{Args, OwnedArgs};
use super::failure::error;
use super::interrupt::{self, Attempt, Interrupt};
use super::limits::{Refused, refused};
use super::reference::Reference;
use super::value::Content;
use super::walk::{bases, walkable};
use super::{operators, system, value};
use crate::event::{Attributes, Name};
use crate::expr::{Builtin, Constant, Op, Program, Use};

create_exception!(msprof_rs, Unreturned, PyException, "A call that raised has no result to look at.");

/// An attribute and the program that gives its value, with all its texts as Python objects.
pub(crate) struct Evaluated {
    name: Name,
    content: Content,
    ops: Box<[Op]>,
    constants: Box<[Py<PyAny>]>,
    names: Box<[Py<PyString>]>,
    arguments: Box<[Argument]>,
    uses: Box<[Use]>,
    stack: usize,
    has_failed: AtomicBool,
    has_refused: AtomicBool,
}

struct Argument {
    name: Py<PyString>,
    position: Option<usize>,
    default: Option<Reference>,
}

impl Evaluated {
    /// Prepares a program for calls of `target`, whose defaults stand in for arguments that are not given.
    pub(super) fn new(target: &Bound<'_, PyAny>, name: &str, program: &Program) -> PyResult<Self> {
        let py = target.py();
        // What a call would have to make first, and might have no memory for.
        Refused::type_object(py);
        Unreturned::type_object(py);
        bases(py);
        let constants = program.constants().iter().map(|constant| constant_object(py, constant));
        let interned = |text: &String| PyString::intern(py, text).unbind();
        let arguments = program.arguments().iter().map(|argument| {
            Ok(Argument {
                name: interned(&argument.name),
                position: argument.position.map(usize::from),
                default: default_of(target, &argument.name).optional(py)?.flatten(),
            })
        });
        Ok(Self {
            name: Name::new(name),
            content: Content::of(name),
            ops: program.ops().into(),
            constants: constants.collect::<PyResult<_>>()?,
            names: program.names().iter().map(interned).collect(),
            arguments: arguments.collect::<PyResult<_>>()?,
            uses: program.uses().into(),
            stack: program.stack(),
            has_failed: AtomicBool::new(false),
            has_refused: AtomicBool::new(false),
        })
    }

    /// Appends the attribute, unless its value is None.
    ///
    /// # Errors
    /// What the expression raised.
    pub(super) fn append(
        &self,
        py: Python<'_>,
        args: Args<'_>,
        result: Option<Borrowed<'_, '_, PyAny>>,
        buffer: &mut Attributes,
    ) -> PyResult<()> {
        let value = self.run(py, args, result)?;
        if !value.is_none() {
            buffer.key(self.name);
            value::append(buffer, &value, self.content)?;
        }
        Ok(())
    }

    /// Says the first time that the expression failed, and the first time that it asked for too much.
    ///
    /// # Errors
    /// The exception was asked for its text, and that was interrupted.
    pub(super) fn report(&self, py: Python<'_>, symbol: &str, error: &PyErr) -> Result<(), Interrupt> {
        if error.is_instance_of::<Unreturned>(py) {
            return Ok(()); // nothing is wrong with the expression
        }
        let is_refused = error.is_instance_of::<Refused>(py);
        let has_spoken = if is_refused { &self.has_refused } else { &self.has_failed };
        if !has_spoken.swap(true, Ordering::Relaxed) {
            let (name, problem) = (self.name.as_str(), interrupt::message(py, error)?);
            log::warn!(
                "{symbol}: attribute {name} is left out where its expression fails, as now: {problem}"
            );
        }
        Ok(())
    }

    fn run<'py>(
        &self,
        py: Python<'py>,
        args: Args<'_>,
        result: Option<Borrowed<'_, 'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut stack = Stack { values: Vec::with_capacity(self.stack) };
        let mut at = 0;
        while let Some(op) = self.ops.get(at) {
            at += 1;
            match *op {
                Op::LoadArgument(n) => stack.push(self.argument(py, args, n)?),
                Op::LoadThis => {
                    let this = args
                        .positional(py, 0)
                        .ok_or_else(|| error::<PyNameError>("no instance was given"))?;
                    stack.push(this.to_owned());
                }
                Op::LoadArgs => stack.push(positional(py, args, 0)?),
                Op::LoadPositional(n) => {
                    let value = args
                        .positional(py, usize::from(n))
                        .ok_or_else(|| error::<PyIndexError>("there are fewer positional arguments"))?;
                    stack.push(value.to_owned());
                }
                Op::LoadRest(from) => stack.push(positional(py, args, usize::from(from))?),
                Op::LoadKwargs => stack.push(keywords(py, args)?),
                Op::LoadReturn => {
                    let result =
                        result.ok_or_else(|| error::<Unreturned>("the call raised and returned nothing"))?;
                    stack.push(result.to_owned());
                }
                Op::Const(n) => stack.push(entry(&self.constants, n)?.bind(py).clone()),
                Op::Attr(n) => {
                    let object = stack.pop()?;
                    stack.push(object.getattr(entry(&self.names, n)?.bind(py))?);
                }
                Op::Index => {
                    let (object, index) = stack.pop_two()?;
                    stack.push(operators::item(&object, &index)?);
                }
                Op::Slice => {
                    let step = stack.pop()?;
                    let (start, stop) = stack.pop_two()?;
                    let slice = py.get_type::<PySlice>().call1((start, stop, step))?;
                    let object = stack.pop()?;
                    stack.push(operators::item(&object, &slice)?);
                }
                Op::Call(builtin, count) => {
                    let start = stack.values.len().checked_sub(usize::from(count)).ok_or_else(malformed)?;
                    let value = call(py, builtin, &stack.values[start..])?;
                    stack.values.truncate(start);
                    stack.push(value);
                }
                Op::Unary(op) => {
                    let value = stack.pop()?;
                    stack.push(operators::unary(op, &value)?);
                }
                Op::Binary(op) => {
                    let (a, b) = stack.pop_two()?;
                    stack.push(operators::binary(op, &a, &b)?);
                }
                Op::Compare(op) => {
                    let (a, b) = stack.pop_two()?;
                    stack.push(operators::compare(op, &a, &b)?);
                }
                Op::JumpIfFalseOrPop(to) => at = stack.jump_or_pop(false, to, at)?,
                Op::JumpIfTrueOrPop(to) => at = stack.jump_or_pop(true, to, at)?,
                Op::PopJumpIfFalse(to) => {
                    if !stack.pop()?.is_truthy()? {
                        at = usize::from(to);
                    }
                }
                Op::Jump(to) => at = usize::from(to),
            }
        }
        stack.pop()
    }

    /// Where what it looks at is among a call's values.
    fn reads<'a>(&'a self, py: Python<'a>, args: Args<'a>) -> impl Iterator<Item = Range<usize>> + 'a {
        let one = |index: usize| index..index + 1;
        self.uses.iter().filter_map(move |part| match *part {
            Use::Argument(n) => {
                let argument = self.arguments.get(usize::from(n))?;
                let given = argument.position.filter(|position| *position < args.count());
                given.or_else(|| args.index_of_keyword(argument.name.bind(py))).map(one)
            }
            Use::Positional(n) => Some(one(n.into())).filter(|which| which.end <= args.count()),
            Use::FromEnd(n) => args.count().checked_sub(n.into()).map(one),
            Use::Rest(from) => Some(from.into()..args.count()),
            Use::Keyword(n) => {
                let key = self.constants.get(usize::from(n))?.bind(py);
                args.index_of_keyword(key.cast().ok()?).map(one)
            }
            Use::Keywords => Some(args.count()..args.len(py)),
        })
    }

    fn argument<'py>(&self, py: Python<'py>, args: Args<'_>, n: u16) -> PyResult<Bound<'py, PyAny>> {
        let argument = entry(&self.arguments, n)?;
        let name = argument.name.bind(py);
        let given = match argument.position {
            Some(position) => args.get(position, name),
            None => args.keyword(name),
        };
        let default = || argument.default.as_ref().and_then(|value| value.get(py));
        let value = given.map(pyo3::Borrowed::to_owned).or_else(default);
        value.ok_or_else(|| error::<PyNameError>(format!("{name} was not given")))
    }
}

/// What attributes that are evaluated after the call will look at of its arguments.
pub(super) fn kept(py: Python<'_>, attributes: &[Evaluated], args: Args<'_>) -> OwnedArgs {
    let mut kept = OwnedArgs::new(py, args);
    for which in attributes.iter().flat_map(|attribute| attribute.reads(py, args)) {
        kept.keep(py, args, which);
    }
    kept
}

/// A malformed program can't be made by the compiler; should one come, it is an error like any other.
fn malformed() -> PyErr {
    error::<PyRuntimeError>("the expression's program is malformed, which is a defect of msprof_rs")
}

fn entry<T>(table: &[T], n: u16) -> PyResult<&T> {
    table.get(usize::from(n)).ok_or_else(malformed)
}

struct Stack<'py> {
    values: Vec<Bound<'py, PyAny>>,
}

impl<'py> Stack<'py> {
    fn push(&mut self, value: Bound<'py, PyAny>) {
        self.values.push(value);
    }

    fn pop(&mut self) -> PyResult<Bound<'py, PyAny>> {
        self.values.pop().ok_or_else(malformed)
    }

    fn pop_two(&mut self) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let b = self.pop()?;
        Ok((self.pop()?, b))
    }

    /// Where to go on: at `to` with the value kept if it is `truth`, else at `next` without it.
    fn jump_or_pop(&mut self, truth: bool, to: u16, next: usize) -> PyResult<usize> {
        let value = self.values.last().ok_or_else(malformed)?;
        if value.is_truthy()? == truth {
            return Ok(usize::from(to));
        }
        self.pop()?;
        Ok(next)
    }
}

fn constant_object(py: Python<'_>, constant: &Constant) -> PyResult<Py<PyAny>> {
    Ok(match constant {
        Constant::None => py.None(),
        Constant::Bool(value) => value.into_pyobject(py)?.to_owned().into_any().unbind(),
        Constant::Int(value) => value.into_pyobject(py)?.into_any().unbind(),
        Constant::Float(value) => PyFloat::new(py, *value).into_any().unbind(),
        Constant::Str(value) => PyString::new(py, value).into_any().unbind(),
    })
}

/// None: the parameter has no default.
fn default_of(target: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<Reference>> {
    let inspect = system::inspect(target.py())?;
    let parameters = inspect.call_method1("signature", (target,))?.getattr("parameters")?;
    let default = parameters.get_item(name)?.getattr("default")?;
    let none = inspect.getattr("Parameter")?.getattr("empty")?;
    Ok((!default.is(&none)).then(|| Reference::to_value(&default)).transpose()?)
}

fn positional<'py>(py: Python<'py>, args: Args<'_>, from: usize) -> PyResult<Bound<'py, PyAny>> {
    let items: Vec<_> = (from..args.count()).filter_map(|index| args.positional(py, index)).collect();
    Ok(PyTuple::new(py, items)?.into_any())
}

fn keywords<'py>(py: Python<'py>, args: Args<'_>) -> PyResult<Bound<'py, PyAny>> {
    let dict = PyDict::new(py);
    if let Some(names) = args.names(py) {
        for (name, value) in names.iter().zip(args.values(py).skip(args.count())) {
            dict.set_item(name, value)?;
        }
    }
    Ok(dict.into_any())
}

fn call<'py>(
    py: Python<'py>,
    builtin: Builtin,
    arguments: &[Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    let first = || arguments.first().ok_or_else(malformed);
    let python = |arguments: &[Bound<'py, PyAny>]| {
        system::builtin(py, builtin.name())?.call1(PyTuple::new(py, arguments)?)
    };
    match builtin {
        Builtin::Len => Ok(first()?.len()?.into_pyobject(py)?.into_any()),
        Builtin::Str => Ok(operators::text(first()?)?.into_any()),
        Builtin::Repr => Ok(operators::representation(first()?)?.into_any()),
        Builtin::Bool => operators::truth(py, first()?.is_truthy()?),
        Builtin::Type => Ok(first()?.get_type().qualname()?.into_any()),
        Builtin::Get => {
            let mut rest = arguments.iter().skip(1);
            let (key, default) = (rest.next().ok_or_else(malformed)?, rest.next());
            let item = operators::item(first()?, key).optional(py)?;
            Ok(item.unwrap_or_else(|| default.cloned().unwrap_or_else(|| py.None().into_bound(py))))
        }
        Builtin::Keys | Builtin::Values | Builtin::Items => {
            let items = first()?.call_method0(PyString::intern(py, builtin.name()))?;
            py.get_type::<PyList>().call1((walkable(&items)?,))
        }
        Builtin::Sum
            if arguments.get(1).is_some_and(|start| {
                !start.is_instance_of::<PyInt>() && !start.is_instance_of::<PyFloat>()
            }) =>
        {
            Err(refused("`sum` of something else than numbers"))
        }
        Builtin::Sum | Builtin::Sorted | Builtin::Any | Builtin::All => {
            let mut arguments = arguments.to_vec();
            *arguments.first_mut().ok_or_else(malformed)? = walkable(first()?)?;
            python(&arguments)
        }
        Builtin::Min | Builtin::Max if arguments.len() == 1 => python(&[walkable(first()?)?]),
        Builtin::Int => {
            operators::check_integer(first()?)?;
            python(arguments)
        }
        Builtin::Round => {
            operators::check_integer(first()?)?;
            arguments.get(1).map_or(Ok(()), operators::check_rounding)?;
            python(arguments)
        }
        Builtin::Min | Builtin::Max | Builtin::Float | Builtin::Abs => python(arguments),
    }
}
