//! What the grammar takes and refuses.

use proptest::prelude::*;

use super::super::trees::any_tree;
use super::*;

fn tree(text: &str) -> Expr {
    parse(text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn two_ways_to_write_the_same_give_the_same_tree() {
    let cases = [
        ("args[0] | attr device | str", "str(args[0].device)"),
        ("args[0] | attr input_batch | attr _req_ids | len", "len(args[0].input_batch._req_ids)"),
        ("len(return) | str", "str(len(return))"),
        ("return[0] | attr input_ids | len", "len(return[0].input_ids)"),
        ("input_tensor | attr shape | str", "str(attr(input_tensor, 'shape'))"),
        ("kwargs['batch_size']", "kwargs[\"batch_size\"]"),
        ("training | bool", "bool(training)"),
        ("data | attr items | len | str", "str(len(data.items))"),
        ("this | attr a.b", "this.a.b"),
        ("x | attr shape[0]", "x.shape[0]"),
        ("x | [0] | ['k']", "x[0]['k']"),
        ("x | get 'k'", "x.get('k')"),
        ("x | get 'k' 0", "x.get('k', 0)"),
        ("x | round 2", "round(x, 2)"),
        ("x | keys | len", "len(x.keys())"),
        ("a or b and not c == d + e * -f", "a or (b and (not (c == (d + (e * (-f))))))"),
        ("a - b - c", "(a - b) - c"),
        ("a / b * c // d % e", "(((a / b) * c) // d) % e"),
        ("a if b else c if d else e", "a if b else (c if d else e)"),
        ("a if b or c else d | len", "len(a if (b or c) else d)"),
        ("a + b | str", "str(a + b)"),
        ("not a in b", "not (a in b)"),
        ("x[1:]", "x[1::]"),
        ("x[:n | len]", "x[:(len(n)):]"),
        (" a\n\t.b [ 1 ] ", "a.b[1]"),
        ("max(a, b,)", "max(a, b)"),
        ("1_000", "1000"),
    ];
    for (left, right) in cases {
        assert_eq!(tree(left), tree(right), "{left}");
    }
}

#[test]
fn literals_keep_their_type() {
    let cases = [
        ("7", Expr::Int(7)),
        ("9223372036854775807", Expr::Int(i64::MAX)),
        ("1.5", Expr::Float(1.5)),
        ("2e3", Expr::Float(2000.0)),
        ("True", Expr::Bool(true)),
        ("None", Expr::None),
        ("'it\\'s'", Expr::Str("it's".into())),
        ("\"a|b\\n\"", Expr::Str("a|b\n".into())),
        ("'+ - __import__'", Expr::Str("+ - __import__".into())),
    ];
    for (text, expected) in cases {
        assert_eq!(tree(text), expected, "{text}");
    }
}

#[test]
fn an_error_points_at_its_place_and_says_what_helps() {
    let cases = [
        ("", 1, "a value is missing"),
        ("x | ", 5, "an operator must follow `|`"),
        ("x | attribute y", 5, "unknown operator `attribute`"),
        ("x | attr", 9, "the name of an attribute is missing"),
        ("x | attr __class__", 10, "begin with `__`"),
        ("x.__dict__", 3, "begin with `__`"),
        ("attr(x, '__dict__')", 1, "does not begin with `__`"),
        ("attr(x, y)", 1, "attr(object, 'name')"),
        ("attr(x, 'a.b')", 1, "attr(object, 'name')"),
        ("eval(x)", 1, "unknown function `eval`"),
        ("x + open('f')", 5, "unknown function `open`"),
        ("keys(x)", 1, "unknown function `keys`"),
        ("x.pop()", 3, "can't be called"),
        ("len()", 1, "takes 1 argument, not 0"),
        ("len(a, b)", 1, "takes 1 argument, not 2"),
        ("x.get()", 3, "takes 1 to 2 arguments, not 0"),
        ("len(x", 6, "`)` is missing"),
        ("x[0", 4, "`]` is missing"),
        ("x[]", 3, "an index is missing"),
        ("x[1:2:3:4]", 8, "`]` is missing"),
        ("x y", 3, "the expression ends before this"),
        ("x)", 2, "never opened"),
        ("a = b", 3, "write `==`"),
        ("a < b < c", 7, "can't be chained"),
        ("a ** b", 3, "no power operator"),
        ("a & b", 3, "no such operator"),
        ("a if b", 7, "`else` is missing"),
        ("a and", 6, "a value is missing"),
        ("and b", 1, "a value is missing before `and`"),
        ("'abc", 1, "closing quote is missing"),
        ("'\\q'", 2, "a backslash stands only"),
        ("99999999999999999999", 1, "does not fit 64 bits"),
        ("1e999", 1, "too large"),
        ("1x", 2, "a number ends here"),
        ("[1, 2]", 1, "a value is missing"),
        ("lambda: 0", 7, "the expression ends before this"),
    ];
    for (text, column, message) in cases {
        let error = parse(text).expect_err(text);
        assert!(error.message().contains(message), "{text}: {error}");
        assert_eq!(error.column(), column, "{text}: {error}");
    }
}

#[test]
fn the_examples_of_the_documentation_are_expressions() {
    let documentation = include_str!("../../../docs/expressions.md");
    let examples = documentation.split("```expr\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(examples.lines().count() > 10);
    examples.lines().for_each(|example| drop(tree(example)));
}

#[test]
fn what_is_too_long_or_too_deep_is_refused_before_it_can_exhaust_the_stack() {
    for text in [
        "(".repeat(900),
        "-".repeat(900) + "x",
        "not ".repeat(400) + "x",
        "x[".repeat(900),
        "a if b else ".repeat(90),
    ] {
        assert!(parse(&text).unwrap_err().message().contains("nest more than"), "{text}");
    }
    assert!(parse(&"x".repeat(LONGEST + 1)).unwrap_err().message().contains("at most"));
    assert!(parse(&(String::from("a") + &"+a".repeat(900))).is_ok(), "long without nesting is fine");
}

proptest! {
    #[test]
    fn a_printed_tree_parses_to_itself(tree in any_tree()) {
        let text = tree.to_string();
        prop_assume!(text.len() <= LONGEST);
        prop_assert_eq!(parse(&text).map_err(|error| error.to_string()), Ok(tree));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn no_jumble_of_tokens_makes_the_parser_panic(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "x", "return", "args", "(", ")", "[", "]", ":", "|", ".", ",", "attr", "len", "get", "'k'", "'", "\\", "1", "1.", "e",
            "-", "not", "in", "is", "if", "else", "and", "or", "==", "<", "=", "**", "/", "//", "é", "\u{0}", " ",
        ]), 0..40),
    ) {
        let text = tokens.concat();
        if let Err(error) = parse(&text) {
            prop_assert!(error.column() <= text.chars().count() + 1);
            prop_assert!(error.to_string().contains('^'));
        }
    }
}
