//! The tree of an expression, which the grammar makes and the compiler reads.

use std::fmt::{self, Display, Formatter};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Name(Name),
    Attribute(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    /// The methods of mappings are calls too: the receiver is the first argument.
    Call(Builtin, Vec<Expr>),
    Unary(UnaryOp, Box<Expr>),
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    Compare(CompareOp, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Conditional {
        condition: Box<Expr>,
        then: Box<Expr>,
        otherwise: Box<Expr>,
    },
}

/// A name and where it stands, in bytes, for errors. Two names are equal wherever they stand.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) offset: usize,
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// A function that expressions can call. The arguments are those of Python's function of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// `len(x)`
    Len,
    /// `str(x)`
    Str,
    /// `int(x)`
    Int,
    /// `float(x)`
    Float,
    /// `bool(x)`
    Bool,
    /// `abs(x)`
    Abs,
    /// `min(iterable)` or `min(a, b, …)`
    Min,
    /// `max(iterable)` or `max(a, b, …)`
    Max,
    /// `sum(iterable)` or `sum(iterable, start)`
    Sum,
    /// `round(x)` or `round(x, digits)`
    Round,
    /// `sorted(iterable)`
    Sorted,
    /// `type(x)`: the qualified name of the type, as text
    Type,
    /// `repr(x)`
    Repr,
    /// `any(iterable)`
    Any,
    /// `all(iterable)`
    All,
    /// `x.keys()` of a mapping, as a list
    Keys,
    /// `x.values()` of a mapping, as a list
    Values,
    /// `x.items()` of a mapping, as a list of pairs
    Items,
    /// `x.get(key)` or `x.get(key, default)` of a mapping
    Get,
}

const BUILTINS: [(&str, Builtin, usize, usize); 19] = [
    ("len", Builtin::Len, 1, 1),
    ("str", Builtin::Str, 1, 1),
    ("int", Builtin::Int, 1, 1),
    ("float", Builtin::Float, 1, 1),
    ("bool", Builtin::Bool, 1, 1),
    ("abs", Builtin::Abs, 1, 1),
    ("min", Builtin::Min, 1, Builtin::MOST_ARGUMENTS),
    ("max", Builtin::Max, 1, Builtin::MOST_ARGUMENTS),
    ("sum", Builtin::Sum, 1, 2),
    ("round", Builtin::Round, 1, 2),
    ("sorted", Builtin::Sorted, 1, 1),
    ("type", Builtin::Type, 1, 1),
    ("repr", Builtin::Repr, 1, 1),
    ("any", Builtin::Any, 1, 1),
    ("all", Builtin::All, 1, 1),
    ("keys", Builtin::Keys, 1, 1),
    ("values", Builtin::Values, 1, 1),
    ("items", Builtin::Items, 1, 1),
    ("get", Builtin::Get, 2, 3),
];

impl Builtin {
    /// No call takes more arguments.
    pub const MOST_ARGUMENTS: usize = 16;

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        BUILTINS.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The fewest and the most arguments that it takes, a mapping's method counting its receiver.
    pub(super) fn arity(self) -> (usize, usize) {
        let row = self.row();
        (row.2, row.3)
    }

    /// Whether it is written `x.name(…)`.
    pub(super) fn is_method(self) -> bool {
        matches!(self, Self::Keys | Self::Values | Self::Items | Self::Get)
    }

    /// The names of all that are written `name(x)`, for messages.
    pub(super) fn names(methods: bool) -> String {
        let rows = BUILTINS.iter().filter(|row| row.1.is_method() == methods);
        rows.map(|row| row.0).collect::<Vec<_>>().join(" ")
    }

    fn row(self) -> &'static (&'static str, Self, usize, usize) {
        // The table is in the order of the declaration, which a test checks.
        &BUILTINS[self as usize]
    }
}

macro_rules! operators {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $type { $($(#[$variant_doc])* $variant,)* }

        impl Display for $type {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }
    };
}

operators! {
    /// An operator before one operand.
    UnaryOp {
        /// `-x`
        Negate = "-",
        /// `+x`
        Plus = "+",
        /// `not x`
        Not = "not ",
    }
}

operators! {
    /// An operator of arithmetic between two operands, as in Python.
    BinaryOp {
        /// `a + b`
        Add = "+",
        /// `a - b`
        Subtract = "-",
        /// `a * b`
        Multiply = "*",
        /// `a / b`
        Divide = "/",
        /// `a // b`
        FloorDivide = "//",
        /// `a % b`
        Remainder = "%",
    }
}

operators! {
    /// A comparison, as in Python.
    CompareOp {
        /// `a < b`
        Less = "<",
        /// `a <= b`
        LessOrEqual = "<=",
        /// `a == b`
        Equal = "==",
        /// `a != b`
        NotEqual = "!=",
        /// `a > b`
        Greater = ">",
        /// `a >= b`
        GreaterOrEqual = ">=",
        /// `a in b`
        In = "in",
        /// `a not in b`
        NotIn = "not in",
        /// `a is b`
        Is = "is",
        /// `a is not b`
        IsNot = "is not",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_is_found_under_its_own_name() {
        for (name, builtin, fewest, most) in BUILTINS {
            assert_eq!(builtin.name(), name);
            assert_eq!(builtin.arity(), (fewest, most));
            assert_eq!(Builtin::from_name(name), Some(builtin));
        }
        assert_eq!(Builtin::from_name("eval"), None);
    }
}
