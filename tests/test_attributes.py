"""The attributes that the users' guide shows, on objects of the same shape."""

from __future__ import annotations

import json
from typing import Any

import pytest

from program import Program


@pytest.mark.parametrize(
    ("expression", "call", "value"),
    [
        ("a", "add(3)", 3),
        ("b", "add(3)", 1),
        ("return", "add(3)", 4),
        ("a | str", "add(3)", "3"),
        ("str(return)", "add(3)", "4"),
        ("a == 3", "add(3)", True),
        ("a if a else 7", "add(0)", 7),
        ("a | bool", "add(3)", True),
        ("float(a)", "add(3)", 3.0),
        ("args[0]", "add(3)", 3),
        ("args[0] | attr device | str", "Shape.describe", "cpu:0"),
        ("args[0] | attr input_batch", "Shape.describe", {"_req_ids": ["a", "b", "c"]}),
        ("this.side", "Shape.describe", 2),
        ("self | attr side", "Shape.describe", 2),
        ("len(this.input_batch['_req_ids'])", "Shape.describe", 3),
        ("this.input_batch['_req_ids'] | len | str", "Shape.describe", "3"),
        ("kwargs['batch_size']", "Shape.describe", 8),
        ("kwargs", "add(3)", {}),
        ("len(return) | str", "Shape.describe", "2"),
        ("return['args'][1]", "Shape.describe", "x"),
        ("return | attr items | str | bool", "Shape.describe", True),
    ],
)
def test_an_expression_gives_a_typed_value(hooked: Program, expression: str, call: str, value: Any) -> None:
    symbol = "Shape.describe" if call == "Shape.describe" else "add"
    code = f"shapes.{call}" if symbol == "add" else "shapes.Shape().describe('w', 'x', batch_size=8)"
    hooked.hook(
        f"""
        - symbol: shapes:{symbol}
          attributes:
            - name: it
              expr: {expression!r}
        """
    )
    hooked.run(f"import shapes; {code}")
    (span,) = hooked.capture().spans
    assert span.attributes == {"it": value}
    assert type(span.attributes["it"]) is type(value)


@pytest.mark.parametrize("expression", ["a.nothing", "a[0]", "len(a)", "int('x')"])
def test_an_expression_that_fails_leaves_its_attribute_out_and_nothing_else(
    hooked: Program, expression: str
) -> None:
    hooked.hook(
        f"""
        - symbol: shapes:add
          attributes:
            - {{name: bad, expr: {expression!r}}}
            - {{name: good, expr: a}}
        """
    )
    out, _ = hooked.run("import shapes; print(shapes.add(3))")
    assert out == "4\n"
    (span,) = hooked.capture().spans
    assert span.attributes == {"good": 3}


def test_an_expression_that_cannot_be_compiled_is_named_by_line_and_the_span_stays(hooked: Program) -> None:
    hooked.hook(
        """\
        - symbol: shapes:add
          attributes:
            - name: bad
              expr: no_parameter_of_this_name
            - name: good
              expr: a
        """
    )
    _, err = hooked.run("import shapes; shapes.add(3)")
    assert "no_parameter_of_this_name" in err
    assert "symbols.yaml" in err
    (span,) = hooked.capture().spans
    assert span.attributes == {"good": 3}


@pytest.mark.parametrize(
    ("value", "captured"),
    [
        ("True", True),
        ("-(2**63)", -(2**63)),
        ("2**63 - 1", 2**63 - 1),
        ("0.1", 0.1),
        ("'naïve \\U0001f600 \\n \"quoted\"'", 'naïve \U0001f600 \n "quoted"'),
        ("['a', 1, [2.5, {'k': True}]]", ["a", 1, [2.5, {"k": True}]]),
        ("{'rid': 'x', 'iter': 0}", {"rid": "x", "iter": 0}),
        ("(1, 2)", [1, 2]),
    ],
)
def test_values_keep_their_types_in_the_file(hooked: Program, value: str, captured: Any) -> None:
    hooked.hook("- {symbol: 'shapes:Shape.describe', attributes: [{name: it, expr: 'args[1]'}]}")
    hooked.run(f"import shapes; shapes.Shape().describe({value})")
    (span,) = hooked.capture().spans
    assert span.attributes["it"] == captured
    assert type(span.attributes["it"]) is type(captured)


def test_attributes_are_evaluated_only_on_this_call_and_do_not_keep_objects_alive(hooked: Program) -> None:
    hooked.hook("- {symbol: 'shapes:Shape.describe', attributes: [{name: it, expr: 'this.side'}]}")
    hooked.run(
        """
        import gc, weakref, shapes
        shape = shapes.Shape()
        shape.describe(1)
        alive = weakref.ref(shape)
        del shape
        gc.collect()
        assert alive() is None
        """
    )
    assert [span.attributes for span in hooked.capture().spans] == [{"it": 2}]


@pytest.mark.parametrize(
    ("value", "captured"),
    [
        ("numpy.int64(-7)", -7),
        ("numpy.uint8(7)", 7),
        ("numpy.uint64(2**64 - 1)", "18446744073709551615"),
        ("numpy.float32(0.5)", 0.5),
        ("numpy.float16(0.5)", 0.5),
        ("numpy.bool_(True)", True),
        ("numpy.str_('text')", "text"),
        ("numpy.datetime64('2026-01-02')", "2026-01-02"),
        ("numpy.zeros((2, 3), 'float16')", {"shape": [2, 3], "dtype": "float16"}),
        ("[numpy.int8(1), numpy.zeros(2)]", [1, {"shape": [2], "dtype": "float64"}]),
        ("values.Tensor(4, 1024)", {"shape": [4, 1024], "dtype": "bfloat16"}),
        ("{'hidden': (values.Tensor(8),)}", {"hidden": [{"shape": [8], "dtype": "bfloat16"}]}),
        ("values.Tensor", "<class 'values.Tensor'>"),
        ("values.Proxy()", "asked 0 times"),
        ("b'na\\xc3\\xafve \\xff'", "naïve \\xff"),
        ("bytearray(b'ok')", "ok"),
        ("{b'key': 1, values.Plain.RUNNING: 2}", {"key": 1, "RUNNING": 2}),
        ("values.Plain.RUNNING", "RUNNING"),
        ("[values.Number.TWO, values.Word.HELLO]", [2, "hello"]),
        ("[None, 1, values.Point()]", ["None", 1, "Point(x=1)"]),
        ("values.nested(9)", [[[[[["…"]]]]]]),
    ],
)
def test_a_value_is_written_as_a_person_would_and_without_touching_data(
    program: Program, value: str, captured: Any
) -> None:
    program.hook("- {symbol: 'values:take', attributes: [{name: it, expr: value}]}")
    _, err = program.run(f"import numpy, values; values.take({value})", PYTHONWARNINGS="error")
    (span,) = program.capture().spans
    assert span.attributes == {"it": captured}, err
    assert type(span.attributes["it"]) is type(captured)


def test_bytes_are_no_warning_where_python_is_told_to_raise_them(program: Program) -> None:
    program.hook("- {symbol: 'values:take', attributes: [{name: it, expr: value}]}")
    program.run(
        """
        import subprocess, sys
        code = "import msprof_rs, values; values.take([b'a', {b'k': bytearray(b'v')}])"
        subprocess.run([sys.executable, "-bb", "-c", code], check=True)
        """
    )
    assert [span.attributes for span in program.capture().spans] == [{"it": ["a", {"k": "v"}]}]


def test_how_much_of_a_value_is_kept_is_what_the_config_said_at_the_start(program: Program) -> None:
    program.hook("- {symbol: 'values:take', attributes: [{name: it, expr: value}]}")
    program.configure(attribute_text_length=3, attribute_max_items=2)
    program.run(
        """
        import values
        own = values.Own([5, 6, 7])
        texts = ["abc", "ábćd", b"wxyz", "z" * 10**6]
        for value in [*texts, [1, 2], [1, 2, 3, 4], {"a": 1, "long key": 2, "c": 3}, own]:
            values.take(value)
        assert own.asked == 0, own.asked
        """
    )
    assert [span.attributes["it"] for span in program.capture().spans] == [
        "abc",
        "ábć…",
        "wxy…",
        "zzz…",
        [1, 2],
        [1, 2, "… and 2 more"],
        {"a": 1, "lon…": 2, "…": "and 1 more"},
        [5, 6, "… and 1 more"],
    ]


def test_without_a_word_in_the_config_256_characters_and_1024_items_are_kept(program: Program) -> None:
    program.hook("- {symbol: 'values:take', attributes: [{name: it, expr: value}]}")
    program.run("import values; values.take('é' * 257); values.take([0] * 1025)")
    text, items = (span.attributes["it"] for span in program.capture().spans)
    assert text == "é" * 256 + "…"
    assert items == [0] * 1024 + ["… and 1 more"]


def test_an_empty_mapping_is_no_list_in_the_outputs_either(hooked: Program) -> None:
    hooked.hook(
        "- {symbol: 'shapes:add', attributes: [{name: named, expr: kwargs}, {name: all, expr: 'args[1:]'}]}"
    )
    hooked.run("import shapes; shapes.add(3)")
    (session,) = hooked.sessions()
    output = hooked.folder / "output"
    done = hooked.command(
        "parse", "--input-path", str(session), "--output-path", str(output), "--format", "json"
    )
    assert done.returncode == 0, done.stderr
    events = json.loads((output / "chrome_tracing.json").read_text())
    (add,) = [event for event in events if event["name"] == "add"]
    assert (add["args"]["named"], add["args"]["all"]) == ({}, [])
