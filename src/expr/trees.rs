//! Trees for tests: any tree that the grammar can make, and the text that parses to it.

use std::fmt::{self, Display, Formatter};

use proptest::prelude::*;

use super::ast::{BinaryOp, Builtin, CompareOp, Expr, Name, UnaryOp};
use super::grammar::RESERVED;

impl Expr {
    /// Needs no parentheses wherever it stands.
    fn is_atom(&self) -> bool {
        !matches!(
            self,
            Self::Unary(..) | Self::Binary(..) | Self::Compare(..) | Self::And(..) | Self::Or(..)
                | Self::Conditional { .. }
                // `1.x` would be a number.
                | Self::Int(_) | Self::Float(_)
        )
    }
}

/// The same with parentheses where one may be needed, simple rather than short.
struct Tight<'a>(&'a Expr);

impl Display for Tight<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_atom() { write!(f, "{}", self.0) } else { write!(f, "({})", self.0) }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(true) => f.write_str("True"),
            Self::Bool(false) => f.write_str("False"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Str(text) => write_string(f, text),
            Self::Name(name) => f.write_str(&name.text),
            Self::Attribute(object, name) => write!(f, "{}.{name}", Tight(object)),
            Self::Index(object, index) => write!(f, "{}[{index}]", Tight(object)),
            Self::Slice(object, parts) => {
                let [from, to, by] =
                    parts.each_ref().map(|part| part.as_ref().map_or(String::new(), ToString::to_string));
                write!(f, "{}[{from}:{to}:{by}]", Tight(object))
            }
            Self::Call(builtin, arguments) => match &arguments[..] {
                [receiver, rest @ ..] if builtin.is_method() => {
                    write!(f, "{}.{}(", Tight(receiver), builtin.name())?;
                    write_list(f, rest)
                }
                all => {
                    write!(f, "{}(", builtin.name())?;
                    write_list(f, all)
                }
            },
            Self::Unary(op, operand) => write!(f, "{op}{}", Tight(operand)),
            Self::Binary(op, left, right) => write!(f, "{} {op} {}", Tight(left), Tight(right)),
            Self::Compare(op, left, right) => write!(f, "{} {op} {}", Tight(left), Tight(right)),
            Self::And(left, right) => write!(f, "{} and {}", Tight(left), Tight(right)),
            Self::Or(left, right) => write!(f, "{} or {}", Tight(left), Tight(right)),
            Self::Conditional { condition, then, otherwise } => {
                write!(f, "{} if {} else {}", Tight(then), Tight(condition), Tight(otherwise))
            }
        }
    }
}

fn write_list(f: &mut Formatter<'_>, items: &[Expr]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    f.write_str(")")
}

fn write_string(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("'")?;
    for c in text.chars() {
        match c {
            '\'' => f.write_str("\\'")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("'")
}

fn name() -> impl Strategy<Value = String> {
    "_?[a-z][a-z0-9_]{0,6}"
        .prop_filter("reserved", |name| !RESERVED.contains(&&name[..]) && !name.starts_with("__"))
}

fn leaf() -> impl Strategy<Value = Expr> {
    prop_oneof![
        Just(Expr::None),
        any::<bool>().prop_map(Expr::Bool),
        (0..=i64::MAX).prop_map(Expr::Int),
        (0.0..1e300f64).prop_map(Expr::Float),
        any::<String>().prop_map(Expr::Str),
        prop_oneof![name(), Just("return".to_owned())].prop_map(|text| Expr::Name(Name { text, offset: 0 })),
    ]
}

/// Any tree that the grammar can make.
pub(super) fn any_tree() -> impl Strategy<Value = Expr> {
    use {BinaryOp as B, Builtin as F, CompareOp as C, UnaryOp as U};
    leaf().prop_recursive(5, 40, 3, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        let part = || prop::option::of(boxed());
        let unary = prop::sample::select(vec![U::Negate, U::Plus, U::Not]);
        let binary = prop::sample::select(vec![
            B::Add,
            B::Subtract,
            B::Multiply,
            B::Divide,
            B::FloorDivide,
            B::Remainder,
        ]);
        let compare = prop::sample::select(vec![
            C::Less,
            C::LessOrEqual,
            C::Equal,
            C::NotEqual,
            C::Greater,
            C::GreaterOrEqual,
            C::In,
            C::NotIn,
            C::Is,
            C::IsNot,
        ]);
        let one = prop::sample::select(vec![
            F::Len,
            F::Str,
            F::Int,
            F::Float,
            F::Bool,
            F::Abs,
            F::Sorted,
            F::Type,
            F::Repr,
            F::Any,
            F::All,
            F::Keys,
            F::Values,
            F::Items,
            F::Min,
            F::Sum,
        ]);
        let two = prop::sample::select(vec![F::Get, F::Round, F::Sum, F::Max]);
        prop_oneof![
            (boxed(), name()).prop_map(|(object, name)| Expr::Attribute(object, name)),
            (boxed(), boxed()).prop_map(|(object, index)| Expr::Index(object, index)),
            (boxed(), [part(), part(), part()]).prop_map(|(object, parts)| Expr::Slice(object, parts)),
            (one, inner.clone()).prop_map(|(f, x)| Expr::Call(f, vec![x])),
            (two, inner.clone(), inner.clone()).prop_map(|(f, x, y)| Expr::Call(f, vec![x, y])),
            (unary, boxed()).prop_map(|(op, x)| Expr::Unary(op, x)),
            (binary, boxed(), boxed()).prop_map(|(op, x, y)| Expr::Binary(op, x, y)),
            (compare, boxed(), boxed()).prop_map(|(op, x, y)| Expr::Compare(op, x, y)),
            (boxed(), boxed()).prop_map(|(x, y)| Expr::And(x, y)),
            (boxed(), boxed()).prop_map(|(x, y)| Expr::Or(x, y)),
            (boxed(), boxed(), boxed()).prop_map(|(condition, then, otherwise)| Expr::Conditional {
                condition,
                then,
                otherwise
            }),
        ]
    })
}
