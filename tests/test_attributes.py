"""The attributes that the users' guide shows, on objects of the same shape."""

from __future__ import annotations

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
