"""The public API raises nothing into the program, whatever it is given, on or off."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from program import PROGRAMS, Program

sys.path.insert(0, str(PROGRAMS))
from anything import VALUES

BATCHES = int(os.environ.get("TORTURE", "6"))
folders = itertools.count()

FUNCTIONS = [
    "msprof_rs.span",
    "msprof_rs.event",
    "msprof_rs.counter",
    "msprof_rs.timed",
    "msprof_rs.timed()",
    "Profiler",
    "span.__setitem__",
    "span.__exit__",
    "profiler.domain",
    "profiler.attr",
    "profiler.res",
    "profiler.metric",
    "profiler.metric_inc",
    "profiler.metric_scope",
    "profiler.metric_scope_as_req_id",
    "profiler.launch",
    "profiler.link",
    "profiler.event",
    "profiler.span_start",
    "profiler.span_end",
    "profiler.add_meta_info",
    "profiler.__exit__",
]
SLOTS = {"span.__setitem__": 2}
"""Python's own: it counts the arguments before we see them."""
KEYWORDS = ["domain", "level", "rid", "name", "value", "key", "other", "function", "\u017f"]
SEQUENCES = [
    "span.__exit__(None, None, None)",
    "[span.__enter__(), span.__enter__(), span.__exit__(None, None, None)]",
    "[span.__exit__(None, None, None), span.__enter__(), span.__exit__(1, 2, 3), span.__exit__()]",
    "[profiler.span_start('a'), profiler.span_start('b'), profiler.span_end(), profiler.span_end()]",
    "[span.__enter__().__setitem__(half, half), span.__exit__(TypeError, error, None)]",
]


@st.composite
def calls(draw: st.DrawFn) -> str:
    """A call, as text."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(SEQUENCES))
    function = draw(st.sampled_from(FUNCTIONS))
    values = st.sampled_from(sorted(VALUES))
    if function in SLOTS:
        positional = draw(st.lists(values, min_size=SLOTS[function], max_size=SLOTS[function]))
        return f"{function}({', '.join(positional)})"
    positional = draw(st.lists(values, max_size=4))
    named = draw(
        st.lists(st.tuples(st.sampled_from(KEYWORDS), values), max_size=3, unique_by=lambda it: it[0])
    )
    starred = draw(st.sampled_from(["", "", "**{half: half}", "**{'no name': loop}"]))
    keywords = [f"{name}={value}" for name, value in named]
    return f"{function}({', '.join([*positional, *keywords, *filter(None, [starred])])})"


def told(program: Program, lines: list[str], **settings: object) -> list[str]:
    """What a program tells that makes these calls."""
    program.configure(**settings)
    process = program.start("import runpy; runpy.run_module('anything', run_name='__main__')")
    out, err = process.communicate("\n".join(lines) + "\n", timeout=60)
    assert process.returncode == 0, err
    assert "defect" not in err, err
    assert "panicked" not in err, err
    return out.splitlines()


def test_nothing_that_the_api_is_given_raises(tmp_path: Path) -> None:
    @settings(
        max_examples=BATCHES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(calls(), min_size=150, max_size=150))
    def compare(lines: list[str]) -> None:
        program = Program(tmp_path / str(next(folders)))
        program.hook("[]")
        on = told(program, lines, enable=1)
        off = told(program, lines, enable=0)
        raised = [(line, result) for line, result in zip(lines, on, strict=True) if "raised" in result]
        assert raised == []
        assert list(zip(lines, on, strict=True)) == list(zip(lines, off, strict=True))
        capture = program.capture()
        assert capture.spans or capture.instants or capture.meta

    compare()
