//! The grammar of expressions: text becomes a tree. `docs/expressions.md` has it as EBNF, rule by rule.

use nom::branch::alt;
use nom::combinator::{opt, value};
use nom::{Err, Parser};

use super::ast::{BinaryOp, Builtin, CompareOp, Expr, Name, UnaryOp};
use super::error::ExprError;
use super::literal::{Parsed, expect, fail, keyword, literal, symbol, word};

/// An expression is a line in a file; these bounds keep a strange one from exhausting the stack.
const LONGEST: usize = 2_000;
const DEEPEST: usize = 32;

/// Words that can't be names.
pub(super) const RESERVED: [&str; 7] = ["if", "else", "and", "or", "not", "in", "is"];

/// Parses a whole expression.
///
/// # Errors
/// The text is no expression of the language; the error points at the place.
pub(super) fn parse(text: &str) -> Result<Expr, ExprError> {
    if text.len() > LONGEST {
        return Err(ExprError::new(text, LONGEST, format!("an expression has at most {LONGEST} bytes")));
    }
    let grammar = Grammar { text };
    let at = |rest: &str| text.len() - rest.len();
    match grammar.pipeline(text, 0) {
        Ok((rest, tree)) if rest.trim().is_empty() => Ok(tree),
        Ok((rest, _)) => {
            let rest = rest.trim_start();
            Err(ExprError::new(text, at(rest), unexpected(rest)))
        }
        Err(Err::Error(failure) | Err::Failure(failure)) => {
            Err(ExprError::new(text, at(failure.rest), failure.message))
        }
        Err(Err::Incomplete(_)) => Err(ExprError::new(text, text.len(), "the expression is not complete")),
    }
}

fn unexpected(rest: &str) -> &'static str {
    match rest.as_bytes() {
        [b'=', ..] => "to compare, write `==`",
        [b'*', b'*', ..] | [b'&' | b'^' | b'~' | b'@', ..] => "there is no such operator",
        [b'<' | b'>' | b'!', ..] => "comparisons can't be chained: write `a < b and b < c`",
        [b')' | b']', ..] => "this bracket was never opened",
        _ => "the expression ends before this: is an operator or a `|` missing?",
    }
}

/// The rules. Each takes the text that is left and how deep it is nested.
struct Grammar<'t> {
    text: &'t str,
}

impl<'t> Grammar<'t> {
    /// `conditional { "|" pipe }`
    fn pipeline(&self, input: &'t str, depth: usize) -> Parsed<'t, Expr> {
        if depth > DEEPEST {
            return fail(input, format!("brackets and signs nest more than {DEEPEST} deep"));
        }
        let (mut rest, mut tree) = self.conditional(input, depth)?;
        while let Ok((after, _)) = symbol("|").parse(rest) {
            (rest, tree) = self.pipe(after, tree, depth)?;
        }
        Ok((rest, tree))
    }

    /// `"attr" name { "." name } { subscript } | subscript | function [ arguments ]`
    fn pipe(&self, input: &'t str, operand: Expr, depth: usize) -> Parsed<'t, Expr> {
        if symbol("[").parse(input).is_ok() {
            return self.suffixes(input, operand, depth);
        }
        let Ok((rest, name)) = word(input) else {
            return fail(
                input,
                "an operator must follow `|`: `attr name`, `[index]` or a function such as `len`",
            );
        };
        if name == "attr" {
            let (rest, tree) = attribute(rest, operand)?;
            return self.suffixes(rest, tree, depth);
        }
        let Some(builtin) = Builtin::from_name(name) else {
            let (functions, methods) = (Builtin::names(false), Builtin::names(true));
            return fail(
                input,
                format!("unknown operator `{name}`; there are: attr [index] {functions} {methods}"),
            );
        };
        let mut arguments = vec![operand];
        let mut rest = rest;
        if let Ok((after, _)) = symbol("(").parse(rest) {
            rest = self.arguments(after, &mut arguments, depth)?.0;
        } else {
            while let (after, Some(argument)) = opt(literal).parse(rest)? {
                arguments.push(argument);
                rest = after;
            }
        }
        call(input, rest, builtin, arguments)
    }

    /// `disjunction [ "if" disjunction "else" conditional ]`
    fn conditional(&self, input: &'t str, depth: usize) -> Parsed<'t, Expr> {
        let (rest, then) = self.disjunction(input, depth)?;
        let Ok((rest, _)) = keyword("if").parse(rest) else { return Ok((rest, then)) };
        let (rest, condition) = self.disjunction(rest, depth)?;
        let Ok((rest, _)) = keyword("else").parse(rest) else {
            return fail(rest, "`else` is missing: write `x if condition else y`");
        };
        let (rest, otherwise) = self.nested(rest, depth, Self::conditional)?;
        Ok((
            rest,
            Expr::Conditional { condition: condition.into(), then: then.into(), otherwise: otherwise.into() },
        ))
    }

    /// `conjunction { "or" conjunction }`
    fn disjunction(&self, input: &'t str, depth: usize) -> Parsed<'t, Expr> {
        let (mut rest, mut tree) = self.conjunction(input, depth)?;
        while let Ok((after, _)) = keyword("or").parse(rest) {
            let (after, right) = self.conjunction(after, depth)?;
            (rest, tree) = (after, Expr::Or(tree.into(), right.into()));
        }
        Ok((rest, tree))
    }

    /// `negation { "and" negation }`
    fn conjunction(&self, input: &'t str, depth: usize) -> Parsed<'t, Expr> {
        let (mut rest, mut tree) = self.negation(input, depth)?;
        while let Ok((after, _)) = keyword("and").parse(rest) {
            let (after, right) = self.negation(after, depth)?;
            (rest, tree) = (after, Expr::And(tree.into(), right.into()));
        }
        Ok((rest, tree))
    }

    /// `"not" negation | comparison`
    fn negation(&self, input: &'t str, depth: usize) -> Parsed<'t, Expr> {
        let Ok((rest, _)) = keyword("not").parse(input) else { return self.comparison(input, depth) };
        let (rest, operand) = self.nested(rest, depth, Self::negation)?;
        Ok((rest, Expr::Unary(UnaryOp::Not, operand.into())))
    }

    /// `sum [ comparison-operator sum ]`
    fn comparison(&self, input: &'t str, depth: usize) -> Parsed<'t, Expr> {
        let (rest, left) = self.sum(input, depth)?;
        let (rest, op) = opt(comparison_operator).parse(rest)?;
        let Some(op) = op else { return Ok((rest, left)) };
        let (rest, right) = self.sum(rest, depth)?;
        if comparison_operator(rest).is_ok() {
            return fail(rest, "comparisons can't be chained: write `a < b and b < c`");
        }
        Ok((rest, Expr::Compare(op, left.into(), right.into())))
    }

    /// `product { ( "+" | "-" ) product }`
    fn sum(&self, input: &'t str, depth: usize) -> Parsed<'t, Expr> {
        let (mut rest, mut tree) = self.product(input, depth)?;
        let mut operator = alt((value(BinaryOp::Add, symbol("+")), value(BinaryOp::Subtract, symbol("-"))));
        while let Ok((after, op)) = operator.parse(rest) {
            let (after, right) = self.product(after, depth)?;
            (rest, tree) = (after, Expr::Binary(op, tree.into(), right.into()));
        }
        Ok((rest, tree))
    }

    /// `signed { ( "*" | "//" | "/" | "%" ) signed }`
    fn product(&self, input: &'t str, depth: usize) -> Parsed<'t, Expr> {
        let (mut rest, mut tree) = self.signed(input, depth)?;
        let mut operator = alt((
            value(BinaryOp::Multiply, symbol("*")),
            value(BinaryOp::FloorDivide, symbol("//")),
            value(BinaryOp::Divide, symbol("/")),
            value(BinaryOp::Remainder, symbol("%")),
        ));
        while let Ok((after, op)) = operator.parse(rest) {
            if op == BinaryOp::Multiply && after.starts_with('*') {
                return fail(rest, "there is no power operator");
            }
            let (after, right) = self.signed(after, depth)?;
            (rest, tree) = (after, Expr::Binary(op, tree.into(), right.into()));
        }
        Ok((rest, tree))
    }

    /// `( "-" | "+" ) signed | atom { suffix }`
    fn signed(&self, input: &'t str, depth: usize) -> Parsed<'t, Expr> {
        let mut sign = alt((value(UnaryOp::Negate, symbol("-")), value(UnaryOp::Plus, symbol("+"))));
        if let Ok((rest, op)) = sign.parse(input) {
            let (rest, operand) = self.nested(rest, depth, Self::signed)?;
            return Ok((rest, Expr::Unary(op, operand.into())));
        }
        let (rest, atom) = self.atom(input, depth)?;
        self.suffixes(rest, atom, depth)
    }

    /// `literal | "(" pipeline ")" | function "(" … ")" | name`
    fn atom(&self, input: &'t str, depth: usize) -> Parsed<'t, Expr> {
        if let (rest, Some(tree)) = opt(literal).parse(input)? {
            return Ok((rest, tree));
        }
        if let Ok((rest, _)) = symbol("(").parse(input) {
            let (rest, tree) = self.pipeline(rest, depth + 1)?;
            return expect(")", rest).map(|(rest, ())| (rest, tree));
        }
        let Ok((rest, name)) = word(input) else { return fail(input, "a value is missing here") };
        if RESERVED.contains(&name) {
            return fail(input, format!("a value is missing before `{name}`"));
        }
        if let Ok((arguments, _)) = symbol("(").parse(rest) {
            return self.function(input, name, arguments, depth);
        }
        let offset = self.text.len() - input.trim_start().len();
        Ok((rest, Expr::Name(Name { text: name.into(), offset })))
    }

    /// A call, after its opening bracket. `at` is where it begins.
    fn function(&self, at: &'t str, name: &str, input: &'t str, depth: usize) -> Parsed<'t, Expr> {
        let mut arguments = Vec::new();
        let builtin = Builtin::from_name(name).filter(|builtin| !builtin.is_method());
        if builtin.is_none() && name != "attr" {
            let functions = Builtin::names(false);
            return fail(at, format!("unknown function `{name}`; there are: attr {functions}"));
        }
        let (rest, ()) = self.arguments(input, &mut arguments, depth)?;
        let Some(builtin) = builtin else {
            return match <[Expr; 2]>::try_from(arguments) {
                Ok([object, Expr::Str(name)]) if attribute_name_problem(&name).is_none() => {
                    Ok((rest, Expr::Attribute(object.into(), name)))
                }
                _ => fail(at, "write attr(object, 'name'), with a name that does not begin with `__`"),
            };
        };
        call(at, rest, builtin, arguments)
    }

    /// `[ pipeline { "," pipeline } ] ")"`
    fn arguments(&self, input: &'t str, into: &mut Vec<Expr>, depth: usize) -> Parsed<'t, ()> {
        let mut rest = input;
        while symbol(")").parse(rest).is_err() {
            let (after, argument) = self.pipeline(rest, depth + 1)?;
            into.push(argument);
            match symbol(",").parse(after) {
                Ok((after, _)) => rest = after,
                Err(_) => return expect(")", after),
            }
        }
        expect(")", rest)
    }

    /// `{ "." name | "." method "(" … ")" | subscript }`
    fn suffixes(&self, input: &'t str, operand: Expr, depth: usize) -> Parsed<'t, Expr> {
        let (mut rest, mut tree) = (input, operand);
        loop {
            if let Ok((after, _)) = symbol(".").parse(rest) {
                let (after_name, name) = attribute_name(after)?;
                let Ok((arguments, _)) = symbol("(").parse(after_name) else {
                    (rest, tree) = (after_name, Expr::Attribute(tree.into(), name.into()));
                    continue;
                };
                let Some(builtin) = Builtin::from_name(name).filter(|builtin| builtin.is_method()) else {
                    let methods = Builtin::names(true);
                    return fail(after, format!("`{name}` can't be called; methods that can: {methods}"));
                };
                let mut all = vec![tree];
                let (after_call, ()) = self.arguments(arguments, &mut all, depth)?;
                (rest, tree) = call(after, after_call, builtin, all)?;
            } else if let Ok((after, _)) = symbol("[").parse(rest) {
                (rest, tree) = self.subscript(after, tree, depth)?;
            } else {
                return Ok((rest, tree));
            }
        }
    }

    /// `pipeline "]" | [ pipeline ] ":" [ pipeline ] [ ":" [ pipeline ] ] "]"`
    fn subscript(&self, input: &'t str, object: Expr, depth: usize) -> Parsed<'t, Expr> {
        let mut parts = [None, None, None];
        let (mut rest, mut colons) = (input, 0);
        loop {
            if symbol(":").parse(rest).is_err() && symbol("]").parse(rest).is_err() {
                let (after, part) = self.pipeline(rest, depth + 1)?;
                (rest, parts[colons]) = (after, Some(Box::new(part)));
            }
            match symbol(":").parse(rest) {
                Ok((after, _)) if colons < 2 => (rest, colons) = (after, colons + 1),
                _ => break,
            }
        }
        let (rest, ()) = expect("]", rest)?;
        match parts {
            [Some(index), ..] if colons == 0 => Ok((rest, Expr::Index(object.into(), index))),
            _ if colons == 0 => fail(input, "an index is missing between the brackets"),
            parts => Ok((rest, Expr::Slice(object.into(), parts))),
        }
    }

    /// One level deeper: for rules that call themselves without brackets.
    fn nested(
        &self,
        input: &'t str,
        depth: usize,
        rule: impl Fn(&Self, &'t str, usize) -> Parsed<'t, Expr>,
    ) -> Parsed<'t, Expr> {
        if depth >= DEEPEST {
            return fail(input, format!("brackets and signs nest more than {DEEPEST} deep"));
        }
        rule(self, input, depth + 1)
    }
}

fn comparison_operator(input: &str) -> Parsed<'_, CompareOp> {
    alt((
        value(CompareOp::LessOrEqual, symbol("<=")),
        value(CompareOp::Less, symbol("<")),
        value(CompareOp::GreaterOrEqual, symbol(">=")),
        value(CompareOp::Greater, symbol(">")),
        value(CompareOp::Equal, symbol("==")),
        value(CompareOp::NotEqual, symbol("!=")),
        value(CompareOp::NotIn, (keyword("not"), keyword("in"))),
        value(CompareOp::In, keyword("in")),
        value(CompareOp::IsNot, (keyword("is"), keyword("not"))),
        value(CompareOp::Is, keyword("is")),
    ))
    .parse(input)
}

/// `name { "." name }`, after `attr`.
fn attribute(input: &str, object: Expr) -> Parsed<'_, Expr> {
    let (mut rest, name) = attribute_name(input)?;
    let mut tree = Expr::Attribute(object.into(), name.into());
    while let Ok((after, _)) = symbol(".").parse(rest) {
        let (after, name) = attribute_name(after)?;
        (rest, tree) = (after, Expr::Attribute(tree.into(), name.into()));
    }
    Ok((rest, tree))
}

fn attribute_name(input: &str) -> Parsed<'_, &str> {
    let Ok((rest, name)) = word(input) else {
        return fail(input, "the name of an attribute is missing here");
    };
    match attribute_name_problem(name) {
        Some(problem) => fail(input, problem),
        None => Ok((rest, name)),
    }
}

/// Names with two underscores lead from data to the interpreter's inner parts.
fn attribute_name_problem(name: &str) -> Option<String> {
    let is_name = word(name).is_ok_and(|(rest, found)| rest.is_empty() && found == name);
    if !is_name {
        return Some(format!("`{name}` is not a name"));
    }
    name.starts_with("__").then(|| format!("`{name}`: names that begin with `__` can't be read"))
}

fn call<'a>(at: &'a str, rest: &'a str, builtin: Builtin, arguments: Vec<Expr>) -> Parsed<'a, Expr> {
    let (fewest, most) = builtin.arity();
    if (fewest..=most).contains(&arguments.len()) {
        return Ok((rest, Expr::Call(builtin, arguments)));
    }
    let own = usize::from(builtin.is_method());
    let (name, given, fewest, most) =
        (builtin.name(), arguments.len().saturating_sub(own), fewest - own, most - own);
    let takes = if fewest == most { fewest.to_string() } else { format!("{fewest} to {most}") };
    let plural = if most == 1 { "" } else { "s" };
    fail(at, format!("`{name}` takes {takes} argument{plural}, not {given}"))
}

#[cfg(test)]
mod tests;
