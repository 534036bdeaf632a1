//! What a program reads of the arguments of a call, for who has to keep them until it runs.

use super::ast::Builtin;
use super::program::{Constant, Op, Program};

/// An argument, or some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// [`Program::arguments`]`[n]`.
    Argument(u16),
    /// The positional one at this position.
    Positional(u16),
    /// The positional one that is this many places before the end: 1 is the last.
    FromEnd(u16),
    /// The positional ones from this position on.
    Rest(u16),
    /// The one given by the keyword [`Program::constants`]`[n]`, a text.
    Keyword(u16),
    /// All that are given by keyword.
    Keywords,
}

impl Program {
    /// What it reads, the same thing perhaps twice. Of `args[-1]`, `kwargs["name"]` or `len(args)` no more than it takes.
    pub fn uses(&self) -> Vec<Use> {
        (0..self.ops().len()).filter_map(|at| self.use_at(at)).collect()
    }

    fn use_at(&self, at: usize) -> Option<Use> {
        let (op, next) = self.ops()[at..].split_first()?;
        match *op {
            Op::LoadArgument(n) => Some(Use::Argument(n)),
            Op::LoadThis => Some(Use::Positional(0)),
            Op::LoadPositional(n) => Some(Use::Positional(n)),
            // Their number is known without them.
            Op::LoadArgs | Op::LoadRest(_) | Op::LoadKwargs if is_counted(next) => None,
            Op::LoadArgs => Some(self.item(0, next).unwrap_or(Use::Rest(0))),
            Op::LoadRest(from) => Some(self.item(from, next).unwrap_or(Use::Rest(from))),
            Op::LoadKwargs => Some(self.keyword(next).unwrap_or(Use::Keywords)),
            _ => None,
        }
    }

    /// The item that the steps after a load of the positional arguments from there on take of them.
    fn item(&self, from: u16, next: &[Op]) -> Option<Use> {
        let [Op::Const(n), Op::Index, ..] = next else { return None };
        let Constant::Int(index) = self.constants().get(usize::from(*n))? else { return None };
        match u16::try_from(index.unsigned_abs()).ok()? {
            before_end if *index < 0 => Some(Use::FromEnd(before_end)),
            index => from.checked_add(index).map(Use::Positional),
        }
    }

    /// The one that the steps after a load of all keyword arguments take of them.
    fn keyword(&self, next: &[Op]) -> Option<Use> {
        let key = match next {
            [Op::Const(key), Op::Index | Op::Call(Builtin::Get, 2), ..]
            | [Op::Const(key), Op::Const(_), Op::Call(Builtin::Get, 3), ..] => *key,
            _ => return None,
        };
        let constant = self.constants().get(usize::from(key))?;
        matches!(constant, Constant::Str(_)).then_some(Use::Keyword(key))
    }
}

/// Whether what was loaded is only asked for its length.
fn is_counted(next: &[Op]) -> bool {
    matches!(next, [Op::Call(Builtin::Len, 1), ..])
}

#[cfg(test)]
mod tests {
    use super::super::{Signature, compile};
    use super::*;

    /// Of `def method(self, request, *rest, training=False, **extra)`.
    fn uses(text: &str) -> Vec<Use> {
        let signature = Signature {
            positional: vec!["self".into(), "request".into()],
            keyword_only: vec!["training".into()],
            varargs: Some("rest".into()),
            varkw: Some("extra".into()),
            is_method: true,
        };
        compile(text, &signature).unwrap().uses()
    }

    #[test]
    fn what_is_named_is_all_that_is_used() {
        assert_eq!(uses("return | len"), []);
        assert_eq!(uses("1 if return else 'no'"), []);
        assert_eq!(uses("this.name"), [Use::Positional(0)]);
        assert_eq!(uses("request + return"), [Use::Argument(0)]);
        assert_eq!(uses("training and request"), [Use::Argument(0), Use::Argument(1)]);
        assert_eq!(uses("args[2]"), [Use::Positional(2)]);
        assert_eq!(uses("args[-1].size"), [Use::FromEnd(1)]);
        assert_eq!(uses("rest[1]"), [Use::Positional(3)]);
        assert_eq!(uses("rest[-2]"), [Use::FromEnd(2)]);
        assert_eq!(uses("kwargs['b']"), [Use::Keyword(0)]);
        assert_eq!(uses("extra.get('b')"), [Use::Keyword(0)]);
        assert_eq!(uses("'b' if extra.get('c', 0) else return"), [Use::Keyword(0)]);
        assert_eq!(uses("len(args) + len(rest) + len(kwargs)"), []);
    }

    #[test]
    fn what_can_not_be_told_apart_is_used_whole() {
        assert_eq!(uses("args"), [Use::Rest(0)]);
        assert_eq!(uses("args[return]"), [Use::Rest(0)]);
        assert_eq!(uses("args[0 or 1]"), [Use::Rest(0)]);
        assert_eq!(uses("args[1 if return else 0]"), [Use::Rest(0)]);
        assert_eq!(uses("args[1:2]"), [Use::Rest(0)]);
        assert_eq!(uses("args[70000]"), [Use::Rest(0)]);
        assert_eq!(uses("rest[65535]"), [Use::Rest(2)]);
        assert_eq!(uses("rest == 'abc'[0]"), [Use::Rest(2)]);
        assert_eq!(uses("kwargs"), [Use::Keywords]);
        assert_eq!(uses("kwargs[return]"), [Use::Keywords]);
        assert_eq!(uses("kwargs[1]"), [Use::Keywords]);
        assert_eq!(uses("kwargs.get('b', request)"), [Use::Keywords, Use::Argument(0)]);
    }
}
