"""What holds a copy of a function that was made before the hook."""

from __future__ import annotations

import pytest

from conftest import IN_PLACE
from program import Program


@pytest.mark.parametrize(
    "force_wrapper",
    [
        pytest.param(False, marks=pytest.mark.skipif(not IN_PLACE, reason="needs CPython 3.12")),
        pytest.param(
            True,
            marks=pytest.mark.xfail(
                strict=True,
                reason="a partial keeps the bare function, but its name gives the wrapper: not picklable",
            ),
        ),
    ],
    ids=["in place", "wrapper"],
)
def test_a_partial_made_before_the_hook_can_be_pickled(force_wrapper: bool, program: Program) -> None:
    (program.folder / "late.py").write_text(
        "import functools\ndef add(a, b):\n    return a + b\nadd_five = functools.partial(add, 5)\n"
    )
    program.hook("- {symbol: 'late:add', domain: Test}")
    program.environment |= {"MSPROF_FORCE_WRAPPER": "1"} if force_wrapper else {}
    out, _ = program.run(
        """
        import pickle, sys
        sys.path.insert(0, ".")
        import late
        try:
            print(pickle.loads(pickle.dumps(late.add_five))(2))
        except pickle.PicklingError as error:
            print(error)
        """
    )
    assert out == "7\n"
