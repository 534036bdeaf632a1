//! The program of an expression: names are resolved and the tree is laid flat, so that a call evaluates it in one
//! pass over a small stack. Evaluation is the hook room's, on Python objects.

use super::ast::{BinaryOp, Builtin, CompareOp, Expr, Name, UnaryOp};
use super::error::ExprError;
use super::grammar;
use super::signature::Signature;

/// One step. The comment shows the top of the stack before and after it, the topmost value last; `n` and `t` index
/// [`Program`]'s tables and operations. A step that raises in Python ends the program without a value, and so does
/// a load of what the call does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `→ value`: the argument [`Program::arguments`]`[n]`; if the call does not give it, the parameter's default.
    LoadArgument(u16),
    /// `→ instance`: the first positional argument.
    LoadThis,
    /// `→ tuple`: all positional arguments, a method's instance among them.
    LoadArgs,
    /// `→ args[n]`: the positional argument at this position, without a tuple of all of them.
    LoadPositional(u16),
    /// `→ tuple`: the positional arguments from this position on.
    LoadRest(u16),
    /// `→ dict`: the arguments that the call gives by keyword.
    LoadKwargs,
    /// `→ result`: what the target returned. Fails if it raised.
    LoadReturn,
    /// `→ value`: [`Program::constants`]`[n]`.
    Const(u16),
    /// `object → object.name`, the name being [`Program::names`]`[n]`.
    Attr(u16),
    /// `object index → object[index]`
    Index,
    /// `object start stop step → object[start:stop:step]`; a part that was left out is `None`.
    Slice,
    /// `a₁ … aₖ → builtin(a₁, …, aₖ)`, k being the number; a mapping's method has the mapping as a₁.
    Call(Builtin, u8),
    /// `x → op x`
    Unary(UnaryOp),
    /// `a b → a op b`
    Binary(BinaryOp),
    /// `a b → a op b`
    Compare(CompareOp),
    /// `x → x` and on at `t` if x is false; else `x →` and on at the next step. This is `and`.
    JumpIfFalseOrPop(u16),
    /// `x → x` and on at `t` if x is true; else `x →` and on at the next step. This is `or`.
    JumpIfTrueOrPop(u16),
    /// `x →`, and on at `t` if x is false.
    PopJumpIfFalse(u16),
    /// `→`, and on at `t`.
    Jump(u16),
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// `None`
    None,
    /// `True` or `False`
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float, finite.
    Float(f64),
    /// Text.
    Str(String),
}

/// A parameter that an expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name, under which a call may give it by keyword.
    pub name: String,
    /// Its position; `None` if a call can give it by keyword only.
    pub position: Option<u16>,
}

/// A compiled expression. Jumps go forward only, so it ends; at its end the stack has one value, the result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    ops: Vec<Op>,
    constants: Vec<Constant>,
    names: Vec<String>,
    arguments: Vec<Argument>,
    stack: usize,
}

impl Program {
    /// The steps, in order. A jump may lead to the end, behind the last one.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The table of [`Op::Const`].
    pub fn constants(&self) -> &[Constant] {
        &self.constants
    }

    /// The table of [`Op::Attr`]. None begins with `__`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The table of [`Op::LoadArgument`].
    pub fn arguments(&self) -> &[Argument] {
        &self.arguments
    }

    /// The most values that are on the stack at one time.
    pub fn stack(&self) -> usize {
        self.stack
    }
}

/// Checks the grammar of an expression when its target is not known yet.
///
/// # Errors
/// The text is no expression; the error points at the place.
pub fn check(text: &str) -> Result<(), ExprError> {
    grammar::parse(text).map(|_| ())
}

/// Compiles an expression for a target.
///
/// # Errors
/// The text is no expression, or names what is no parameter of the target; the error points at the place.
pub fn compile(text: &str, signature: &Signature) -> Result<Program, ExprError> {
    let tree = grammar::parse(text)?;
    let mut compiler = Compiler { text, signature, program: Program::default(), height: 0 };
    compiler.expression(&tree)?;
    Ok(compiler.program)
}

struct Compiler<'a> {
    text: &'a str,
    signature: &'a Signature,
    program: Program,
    /// Values on the stack at this point.
    height: usize,
}

impl Compiler<'_> {
    fn expression(&mut self, tree: &Expr) -> Result<(), ExprError> {
        match tree {
            Expr::None => self.constant(Constant::None),
            Expr::Bool(value) => self.constant(Constant::Bool(*value)),
            Expr::Int(value) => self.constant(Constant::Int(*value)),
            Expr::Float(value) => self.constant(Constant::Float(*value)),
            Expr::Str(value) => self.constant(Constant::Str(value.clone())),
            Expr::Name(name) => {
                let op = self.resolve(name)?;
                self.emit(op, 0);
            }
            Expr::Attribute(object, name) => {
                self.expression(object)?;
                let name = intern(&mut self.program.names, name.clone());
                self.emit(Op::Attr(name), 1);
            }
            Expr::Index(object, index) => {
                if let Some(load) = self.positional(object, index) {
                    self.emit(load, 0);
                    return Ok(());
                }
                self.expression(object)?;
                self.expression(index)?;
                self.emit(Op::Index, 2);
            }
            Expr::Slice(object, parts) => {
                self.expression(object)?;
                for part in parts {
                    self.expression(part.as_deref().unwrap_or(&Expr::None))?;
                }
                self.emit(Op::Slice, 4);
            }
            Expr::Call(builtin, arguments) => {
                for argument in arguments {
                    self.expression(argument)?;
                }
                self.emit(Op::Call(*builtin, arguments.len() as u8), arguments.len());
            }
            Expr::Unary(op, operand) => match (op, &**operand) {
                // `args[-1]` is common; -i64::MAX fits.
                (UnaryOp::Negate, Expr::Int(value)) => self.constant(Constant::Int(-value)),
                (UnaryOp::Negate, Expr::Float(value)) => self.constant(Constant::Float(-value)),
                _ => {
                    self.expression(operand)?;
                    self.emit(Op::Unary(*op), 1);
                }
            },
            Expr::Binary(op, left, right) => {
                self.expression(left)?;
                self.expression(right)?;
                self.emit(Op::Binary(*op), 2);
            }
            Expr::Compare(op, left, right) => {
                self.expression(left)?;
                self.expression(right)?;
                self.emit(Op::Compare(*op), 2);
            }
            Expr::And(left, right) => self.either(left, right, Op::JumpIfFalseOrPop)?,
            Expr::Or(left, right) => self.either(left, right, Op::JumpIfTrueOrPop)?,
            Expr::Conditional { condition, then, otherwise } => {
                self.expression(condition)?;
                let to_otherwise = self.jump(1);
                self.expression(then)?;
                // The other branch begins without this one's value.
                let to_end = self.jump(1);
                self.land(to_otherwise, Op::PopJumpIfFalse);
                self.expression(otherwise)?;
                self.land(to_end, Op::Jump);
            }
        }
        Ok(())
    }

    fn either(&mut self, left: &Expr, right: &Expr, jump: fn(u16) -> Op) -> Result<(), ExprError> {
        self.expression(left)?;
        let to_end = self.jump(1);
        self.expression(right)?;
        self.land(to_end, jump);
        Ok(())
    }

    /// `args[0]` and the like, which the symbol files in use are full of.
    fn positional(&mut self, object: &Expr, index: &Expr) -> Option<Op> {
        let (Expr::Name(name), Expr::Int(index)) = (object, index) else { return None };
        let is_all = matches!(self.resolve(name), Ok(Op::LoadArgs));
        u16::try_from(*index).ok().filter(|_| is_all).map(Op::LoadPositional)
    }

    /// What a name means in this target.
    fn resolve(&mut self, name: &Name) -> Result<Op, ExprError> {
        let signature = self.signature;
        let is = |other: &Option<String>| other.as_ref() == Some(&name.text);
        let text = name.text.as_str();
        if text == "return" {
            return Ok(Op::LoadReturn);
        }
        if let Some(position) = signature.positional.iter().position(|parameter| parameter == text) {
            if signature.is_method && position == 0 {
                return Ok(Op::LoadThis);
            }
            return Ok(self.argument(text, Some(position as u16)));
        }
        if signature.keyword_only.iter().any(|parameter| parameter == text) {
            return Ok(self.argument(text, None));
        }
        match text {
            // Before `*args` by that name: `args` is the same in every target.
            "args" => Ok(Op::LoadArgs),
            "kwargs" => Ok(Op::LoadKwargs),
            _ if is(&signature.varargs) => Ok(Op::LoadRest(signature.positional.len() as u16)),
            _ if is(&signature.varkw) => Ok(Op::LoadKwargs),
            "this" | "self" if signature.is_method => Ok(Op::LoadThis),
            "this" | "self" => {
                let message = format!("`{text}` is a method's instance, and the target is not a method");
                Err(ExprError::new(self.text, name.offset, message))
            }
            _ => {
                let names = signature.names();
                let message = format!(
                    "`{text}` is not a parameter of the target; its parameters: {names}; besides: args, kwargs, return"
                );
                Err(ExprError::new(self.text, name.offset, message))
            }
        }
    }

    fn argument(&mut self, name: &str, position: Option<u16>) -> Op {
        Op::LoadArgument(intern(&mut self.program.arguments, Argument { name: name.into(), position }))
    }

    fn constant(&mut self, constant: Constant) {
        let index = intern(&mut self.program.constants, constant);
        self.emit(Op::Const(index), 0);
    }

    /// Adds a step that takes `taken` values and leaves one.
    fn emit(&mut self, op: Op, taken: usize) {
        self.program.ops.push(op);
        self.height = self.height + 1 - taken;
        self.program.stack = self.program.stack.max(self.height);
    }

    /// Leaves room for a jump after which `taken` values fewer are on the stack.
    fn jump(&mut self, taken: usize) -> usize {
        self.program.ops.push(Op::Jump(0));
        self.height -= taken;
        self.program.ops.len() - 1
    }

    /// The jump leads here.
    fn land(&mut self, jump: usize, op: fn(u16) -> Op) {
        // The longest text makes fewer steps than a `u16` counts.
        self.program.ops[jump] = op(self.program.ops.len() as u16);
    }
}

/// The index of `item` in the table, where it is put if it is not there.
fn intern<T: PartialEq>(table: &mut Vec<T>, item: T) -> u16 {
    let index = table.iter().position(|other| *other == item).unwrap_or_else(|| {
        table.push(item);
        table.len() - 1
    });
    index as u16
}

#[cfg(test)]
mod tests;
