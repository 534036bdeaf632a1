//! The language of attribute expressions: text becomes a short program for a stack machine.
//!
//! `compile` resolves names against the target's [`Signature`] when a hook is made; the hook room runs the
//! [`Program`] on Python objects. The language itself is described in `docs/expressions.md`.

mod ast;
mod error;
mod grammar;
mod literal;
mod program;
mod signature;
#[cfg(test)]
mod trees;
mod uses;

pub use ast::{BinaryOp, Builtin, CompareOp, UnaryOp};
pub use error::ExprError;
pub use program::{Argument, Constant, Op, Program, check, compile};
pub use signature::Signature;
pub use uses::Use;
