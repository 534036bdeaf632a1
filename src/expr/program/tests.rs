//! Programs of the guide's expressions, and a check of every program's shape.

use proptest::prelude::*;

use super::super::trees::any_tree;
use super::*;

/// `def m(self, request_id, input_ids, *rest, training=False, **extra)`
fn method() -> Signature {
    Signature {
        positional: vec!["self".into(), "request_id".into(), "input_ids".into()],
        keyword_only: vec!["training".into()],
        varargs: Some("rest".into()),
        varkw: Some("extra".into()),
        is_method: true,
    }
}

fn program(text: &str) -> Program {
    compile(text, &method()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn names_become_positions_and_keyword_names() {
    use Op::*;
    let cases = [
        ("self", LoadThis),
        ("this", LoadThis),
        ("args", LoadArgs),
        ("kwargs", LoadKwargs),
        ("extra", LoadKwargs),
        ("rest", LoadRest(3)),
        ("return", LoadReturn),
        ("request_id", LoadArgument(0)),
        ("training", LoadArgument(0)),
    ];
    for (text, op) in cases {
        assert_eq!(program(text).ops(), [op], "{text}");
    }
    let both = program("input_ids if training else input_ids");
    let expected = [("training", None), ("input_ids", Some(2))];
    let arguments: Vec<_> = both.arguments().iter().map(|a| (a.name.as_str(), a.position)).collect();
    assert_eq!(arguments, expected, "each parameter once");
}

#[test]
fn the_instance_of_a_method_is_known_by_any_name_and_a_function_has_none() {
    let odd =
        Signature { positional: vec!["slf".into(), "self_".into()], is_method: true, ..Signature::default() };
    assert_eq!(compile("slf", &odd).unwrap().ops(), [Op::LoadThis]);
    assert_eq!(compile("this", &odd).unwrap().ops(), [Op::LoadThis]);

    let function = Signature { positional: vec!["self".into()], ..Signature::default() };
    assert_eq!(compile("self", &function).unwrap().arguments()[0].position, Some(0));
    let error = compile("len(this)", &function).unwrap_err();
    assert_eq!((error.column(), error.message().contains("not a method")), (5, true), "{error}");
}

#[test]
fn a_parameter_called_args_or_kwargs_is_that_parameter() {
    let signature = Signature {
        positional: vec!["args".into()],
        keyword_only: vec!["kwargs".into()],
        ..Signature::default()
    };
    assert_eq!(compile("args", &signature).unwrap().ops(), [Op::LoadArgument(0)]);
    assert_eq!(compile("kwargs", &signature).unwrap().ops(), [Op::LoadArgument(0)]);
    let variadic =
        Signature { varargs: Some("args".into()), varkw: Some("kwargs".into()), ..Signature::default() };
    assert_eq!(compile("args", &variadic).unwrap().ops(), [Op::LoadArgs], "with the instance, as everywhere");
}

#[test]
fn an_unknown_name_is_an_error_that_lists_the_parameters() {
    let error = compile("return | attr x + nonsense", &method()).unwrap_err();
    assert!(error.message().starts_with("the expression ends before this"), "{error}");
    let error = compile("len(request)", &method()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "column 5: `request` is not a parameter of the target; its parameters: self, request_id, input_ids, training, \
         rest, extra; besides: args, kwargs, return\n    len(request)\n        ^"
    );
    assert!(compile("x", &Signature::default()).unwrap_err().message().contains("its parameters: none"));
}

#[test]
fn the_guides_expressions_become_these_programs() {
    use Op::*;
    let cases: [(&str, &[Op]); 9] = [
        ("args[0] | attr device | str", &[LoadPositional(0), Attr(0), Call(Builtin::Str, 1)]),
        (
            "args[0] | attr input_batch | attr _req_ids | len",
            &[LoadPositional(0), Attr(0), Attr(1), Call(Builtin::Len, 1)],
        ),
        ("len(input_ids)", &[LoadArgument(0), Call(Builtin::Len, 1)]),
        ("len(return) | str", &[LoadReturn, Call(Builtin::Len, 1), Call(Builtin::Str, 1)]),
        ("return[0] | attr input_ids | len", &[LoadReturn, Const(0), Index, Attr(0), Call(Builtin::Len, 1)]),
        ("input_ids | attr shape | str", &[LoadArgument(0), Attr(0), Call(Builtin::Str, 1)]),
        ("kwargs['batch_size']", &[LoadKwargs, Const(0), Index]),
        ("training | bool", &[LoadArgument(0), Call(Builtin::Bool, 1)]),
        (
            "extra | attr items | len | str",
            &[LoadKwargs, Attr(0), Call(Builtin::Len, 1), Call(Builtin::Str, 1)],
        ),
    ];
    for (text, ops) in cases {
        assert_eq!(program(text).ops(), ops, "{text}");
    }
}

#[test]
fn branches_jump_over_each_other() {
    use Op::*;
    let compiled = program("request_id if training and rest else -1");
    let ops = [
        LoadArgument(0),
        JumpIfFalseOrPop(3),
        LoadRest(3),
        PopJumpIfFalse(6),
        LoadArgument(1),
        Jump(7),
        Const(0),
    ];
    assert_eq!(compiled.ops(), ops);
    assert_eq!(compiled.constants(), [Constant::Int(-1)]);
    assert_eq!(compiled.stack(), 1);
}

#[test]
fn calls_and_slices_have_their_operands_in_order() {
    use Op::*;
    let compiled = program("request_id[1:].get('k', None)");
    let ops =
        [LoadArgument(0), Const(0), Const(1), Const(1), Slice, Const(2), Const(1), Call(Builtin::Get, 3)];
    assert_eq!(compiled.ops(), ops);
    assert_eq!(compiled.constants(), [Constant::Int(1), Constant::None, Constant::Str("k".into())]);
    assert_eq!(compiled.stack(), 4);
}

/// How many values are on the stack before each step, and at the end; every way there must agree.
fn heights(program: &Program) -> Vec<Option<usize>> {
    fn come(heights: &mut [Option<usize>], to: usize, height: usize) {
        assert!(heights[to].is_none_or(|known| known == height), "two heights at {to}");
        heights[to] = Some(height);
    }
    let mut heights = vec![None; program.ops().len() + 1];
    heights[0] = Some(0);
    for (index, op) in program.ops().iter().enumerate() {
        let height = heights[index].expect("every step is reached");
        let taken = match *op {
            Op::Jump(target) => {
                assert!(target as usize > index, "jumps go forward");
                come(&mut heights, target as usize, height);
                continue;
            }
            Op::PopJumpIfFalse(target) => {
                assert!(target as usize > index);
                come(&mut heights, target as usize, height - 1);
                come(&mut heights, index + 1, height - 1);
                continue;
            }
            Op::JumpIfFalseOrPop(target) | Op::JumpIfTrueOrPop(target) => {
                assert!(target as usize > index);
                come(&mut heights, target as usize, height);
                come(&mut heights, index + 1, height - 1);
                continue;
            }
            Op::Attr(_) | Op::Unary(_) => 1,
            Op::Index | Op::Binary(_) | Op::Compare(_) => 2,
            Op::Slice => 4,
            Op::Call(_, count) => count as usize,
            _ => 0,
        };
        assert!(height >= taken, "step {index} takes more than there is");
        come(&mut heights, index + 1, height + 1 - taken);
    }
    heights
}

/// The names in a tree, so that a signature can have them all.
fn names(tree: &Expr) -> Vec<String> {
    let text = tree.to_string();
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| *word != "return").map(str::to_owned).collect()
}

proptest! {
    #[test]
    fn every_program_leaves_one_value_on_every_way_through_it(tree in any_tree()) {
        let text = tree.to_string();
        let signature = Signature { positional: names(&tree), ..Signature::default() };
        prop_assume!(text.len() <= 2_000);
        let program = compile(&text, &signature).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let heights = heights(&program);
        prop_assert_eq!(heights.last().copied().flatten(), Some(1));
        prop_assert_eq!(heights.into_iter().flatten().max(), Some(program.stack()));
    }
}
