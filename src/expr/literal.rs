//! The smallest parts of the language: white space, symbols, words, numbers and strings. The grammar is made of them.

use std::borrow::Cow;

use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::{digit1, multispace0, none_of, one_of};
use nom::combinator::{opt, recognize};
use nom::error::{ErrorKind, ParseError};
use nom::sequence::preceded;
use nom::{Err, IResult, Parser};

use super::ast::Expr;

/// What went wrong, and what is left of the text from there.
#[derive(Debug)]
pub(super) struct Failure<'a> {
    pub(super) rest: &'a str,
    pub(super) message: Cow<'static, str>,
}

impl<'a> ParseError<&'a str> for Failure<'a> {
    fn from_error_kind(rest: &'a str, _: ErrorKind) -> Self {
        Self { rest, message: "this can't stand here".into() }
    }

    fn append(_: &'a str, _: ErrorKind, other: Self) -> Self {
        other
    }
}

pub(super) type Parsed<'a, T> = IResult<&'a str, T, Failure<'a>>;

/// Ends parsing: no other reading of the text is tried.
pub(super) fn fail<T>(rest: &str, message: impl Into<Cow<'static, str>>) -> Parsed<'_, T> {
    Err(Err::Failure(Failure { rest: rest.trim_start(), message: message.into() }))
}

/// The symbol, after white space.
pub(super) fn symbol<'a>(text: &'static str) -> impl Parser<&'a str, Output = &'a str, Error = Failure<'a>> {
    preceded(multispace0, tag(text))
}

/// A symbol without which the text makes no sense.
pub(super) fn expect<'a>(text: &'static str, input: &'a str) -> Parsed<'a, ()> {
    match symbol(text).parse(input) {
        Ok((rest, _)) => Ok((rest, ())),
        Err(_) => fail(input, format!("`{text}` is missing here")),
    }
}

/// A name or keyword, after white space.
pub(super) fn word(input: &str) -> Parsed<'_, &str> {
    let head = take_while1(|c: char| c.is_alphabetic() || c == '_');
    let tail = take_while(|c: char| c.is_alphanumeric() || c == '_');
    preceded(multispace0, recognize((head, tail))).parse(input)
}

/// This very word.
pub(super) fn keyword<'a>(text: &'static str) -> impl Parser<&'a str, Output = &'a str, Error = Failure<'a>> {
    move |input: &'a str| match word(input) {
        Ok((rest, found)) if found == text => Ok((rest, found)),
        _ => Err(Err::Error(Failure::from_error_kind(input, ErrorKind::Tag))),
    }
}

/// A number, string, truth value or `None`.
pub(super) fn literal(input: &str) -> Parsed<'_, Expr> {
    if let Ok((rest, found)) = word(input) {
        let value = match found {
            "None" => Expr::None,
            "True" => Expr::Bool(true),
            "False" => Expr::Bool(false),
            _ => return Err(Err::Error(Failure::from_error_kind(input, ErrorKind::Tag))),
        };
        return Ok((rest, value));
    }
    match input.trim_start().chars().next() {
        Some('\'' | '"') => string(input),
        _ => number(input),
    }
}

fn number(input: &str) -> Parsed<'_, Expr> {
    let digits = || recognize((digit1, take_while(|c: char| c.is_ascii_digit() || c == '_')));
    let fraction = recognize((tag("."), digits()));
    let exponent = recognize((one_of("eE"), opt(one_of("+-")), digit1));
    let (rest, (whole, fraction, exponent)) =
        preceded(multispace0, (digits(), opt(fraction), opt(exponent))).parse(input)?;
    if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        return fail(rest, "a number ends here, and what follows can't stand beside it");
    }
    if fraction.is_none() && exponent.is_none() {
        return match whole.replace('_', "").parse() {
            Ok(number) => Ok((rest, Expr::Int(number))),
            Err(_) => fail(input, "this number does not fit 64 bits"),
        };
    }
    let text = [whole, fraction.unwrap_or(""), exponent.unwrap_or("")].concat().replace('_', "");
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((rest, Expr::Float(number))),
        _ => fail(input, "this number is too large"),
    }
}

fn string(input: &str) -> Parsed<'_, Expr> {
    let (mut rest, quote) = preceded(multispace0, one_of("'\"")).parse(input)?;
    let mut text = String::new();
    loop {
        let Ok((after, c)) = none_of::<_, _, Failure<'_>>("").parse(rest) else {
            return fail(input, "this string has no end: the closing quote is missing");
        };
        match c {
            '\\' => {
                let Ok((after_escape, escaped)) = one_of::<_, _, Failure<'_>>("\\'\"nrt").parse(after) else {
                    return fail(rest, "a backslash stands only before \\ ' \" n r t");
                };
                text.push(match escaped {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    same => same,
                });
                rest = after_escape;
            }
            c if c == quote => return Ok((after, Expr::Str(text))),
            c => {
                text.push(c);
                rest = after;
            }
        }
    }
}
