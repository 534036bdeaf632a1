"""A call leaves no reference, object or native memory behind, whatever is hooked and however it ends.

With `TORTURE` in the environment (`make torture`): ten times as many calls.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from program import PATIENCE, Program

ROUNDS = 20_000 if "TORTURE" in os.environ else 2_000

CODE = """
import json, lasting_calls, leftovers
left = {{name: leftovers.left_per_call(call, {rounds}) for name, call in {calls}.items()}}
print(json.dumps({{name: figures for name, figures in left.items() if figures}}))
"""

VALUES = ["value", "name", "return", "return | len", "value.no.such", "str(args)", "kwargs"]

TIMED: dict[str, dict[str, str]] = {
    "give": {},
    "describe": {f"a{number}": expression for number, expression in enumerate(VALUES)},
    "refuse": {},
    "refuse_described": {"value": "value", "size": "return | len"},
    "call": {"value": "value"},
    "Box.__init__": {},
    "Box.take": {"content": "this.content"},
    "Box.static": {},
    "Box.of": {"class": "this"},
    "Box.both": {"content": "this.content", "result": "return"},
    "Box.both.setter": {"value": "args[1]"},
    "partial": {},
    "cached": {},
    "coroutine": {"value": "value", "result": "return"},
    "failing_coroutine": {},
    "generator": {"value": "value"},
    "async_generator": {"value": "value"},
    "future": {"value": "value"},
    "block": {"value": "value"},
}
"""By target, the attributes."""

OPTIONS: dict[str, dict[str, Any]] = {
    "future": {"until": "done"},
    "block": {"until": "exit"},
    "call": {"caller_filter": "call"},
}

HANDLERS = {
    "handled": "passing_on",
    "handled_refusal": "passing_on",
    "changed": "changing",
    "surrounded": "surrounding",
    "managed": "Managing",
    "mishandled": "failing",
    "handled_coroutine": "passing_on_later",
    "surrounded_coroutine": "surrounding",
}

ENTRIES: list[dict[str, Any]] = (
    [
        {"symbol": f"lasting:{target}", "name": target}
        | {"attributes": [{"name": name, "expr": expression} for name, expression in attributes.items()]}
        | OPTIONS.get(target, {})
        for target, attributes in TIMED.items()
    ]
    + [{"symbol": "lasting:give", "name": "give again"}]
    + [
        {"symbol": f"lasting:{target}", "name": target, "handler": f"lasting:{handler}"}
        for target, handler in HANDLERS.items()
    ]
)
SYMBOLS = json.dumps(ENTRIES)

SEEN_BY = {
    "a reference": "references",
    "a block": "blocks",
    "native memory": "bytes",
    "a class": "shared references",
}


@pytest.mark.parametrize("enable", [1, 0], ids=["collecting", "not collecting"])
def test_calls_of_every_kind_leave_nothing_behind(hooked: Program, enable: int) -> None:
    hooked.configure(enable=enable)
    hooked.hook(SYMBOLS)
    code = CODE.format(rounds=ROUNDS, calls="lasting_calls.CALLS")
    out, _ = hooked.run(code, patience=60 * PATIENCE, PROF_LOG_LEVEL="NONE")
    assert json.loads(out) == {}


def test_all_of_these_kinds_are_hooked(hooked: Program) -> None:
    hooked.hook(SYMBOLS)
    out, _ = hooked.run(
        """
        import json, lasting, lasting_calls, leftovers
        for call in lasting_calls.CALLS.values():
            leftovers.repeat(call, leftovers.Thing(), 10)
        print(json.dumps(sorted(lasting.CALLED)))
        """,
        PROF_LOG_LEVEL="NONE",
    )
    assert json.loads(out) == sorted(set(HANDLERS.values()))
    timed = {span.name for span in hooked.capture().spans}
    assert timed == {*TIMED, "give again", "mishandled"}  # the handler that fails is replaced by the timer


def test_what_is_left_behind_is_seen(program: Program) -> None:
    program.hook("[]")
    out, _ = program.run(CODE.format(rounds=2_000, calls="leftovers.LEAKS"))
    left = json.loads(out)
    assert left.keys() == SEEN_BY.keys()
    assert all(figure in left[leak] for leak, figure in SEEN_BY.items())
