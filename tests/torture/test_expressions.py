"""Random expressions on random values: none changes what it looks at, and none takes memory without bound."""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from program import PROGRAMS, Program

sys.path.insert(0, str(PROGRAMS))
from operands import MAKE

BATCHES = int(os.environ.get("TORTURE", "4"))
folders = itertools.count()

ATOMS = [
    "a",
    "b",
    "c",
    "return",
    "args",
    "kwargs",
    "0",
    "3",
    "-2",
    "1000000000",
    "2.5",
    "'k3'",
    "'%s'",
    "None",
]
BINARY = ["+", "-", "*", "/", "//", "%", "==", "!=", "<", ">=", "in", "not in", "is", "and", "or"]
CALLS = ["len", "str", "int", "float", "bool", "abs", "min", "max", "sum", "round", "sorted", "type"]
CALLS += ["repr", "any", "all"]


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """An expression made of smaller ones."""
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(BINARY), inner),
        st.builds("{}({})".format, st.sampled_from(CALLS), inner),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max", "sum", "round"]), inner, inner),
        st.builds("({})[{}]".format, inner, inner),
        st.builds("({})[{}:{}]".format, inner, inner, inner),
        st.builds("({}).{}()".format, inner, st.sampled_from(["keys", "values", "items"])),
        st.builds("({}).get({}, {})".format, inner, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("not {}".format, inner).map("({})".format),
    )


EXPRESSIONS = st.recursive(st.sampled_from(ATOMS), larger, max_leaves=6)
OPERANDS = st.lists(st.sampled_from(sorted(MAKE)), min_size=3, max_size=3).map(" ".join)


def test_no_expression_changes_what_it_looks_at_or_takes_memory_without_bound(tmp_path: Path) -> None:
    @settings(
        max_examples=BATCHES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(EXPRESSIONS, min_size=40, max_size=40), st.lists(OPERANDS, min_size=60, max_size=60))
    def compare(expressions: list[str], operands: list[str]) -> None:
        program = Program(tmp_path / str(next(folders)))
        attributes = [{"name": f"a{n}", "expr": expr} for n, expr in enumerate(expressions)]
        program.hook(json.dumps([{"symbol": "operands:take", "attributes": attributes}]))
        process = program.start("import operands; operands.main()")
        out, err = process.communicate("\n".join(operands) + "\n", timeout=120)
        assert process.returncode == 0, err
        assert "panicked" not in err, err
        *changed, memory = out.splitlines()
        assert changed == []
        assert any(span.attributes for span in program.capture().spans)
        assert int(memory) < 256 * 1024, memory  # KiB

    compare()
