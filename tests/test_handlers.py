"""Handlers of users: called as the guide says, and harmless when they are wrong."""

from __future__ import annotations

import pytest

from program import Program

CALLED = "import shapes, custom_handlers\n"


@pytest.mark.parametrize("path", ["custom_handlers:note_and_call", "custom_handlers.note_and_call"])
def test_a_handler_gets_the_original_the_instance_and_the_arguments(hooked: Program, path: str) -> None:
    hooked.hook(f"- {{symbol: 'shapes:Shape.describe', handler: '{path}'}}")
    hooked.run(
        CALLED
        + """
result = shapes.Shape().describe(1, x=2)
assert result == {"args": (1,), "kwargs": {"x": 2}}, result
assert custom_handlers.calls == [("Shape", (1,), {"x": 2})], custom_handlers.calls
"""
    )


def test_for_a_plain_function_the_instance_is_the_first_argument(hooked: Program) -> None:
    hooked.hook("- {symbol: 'shapes:add', handler: 'custom_handlers:note_and_call'}")
    hooked.run(
        CALLED
        + """
assert shapes.add(1, b=2) == 3
assert custom_handlers.calls == [("int", (), {"b": 2})], custom_handlers.calls
"""
    )


def test_an_async_handler_is_awaited_and_may_change_the_result(hooked: Program) -> None:
    hooked.hook("- {symbol: 'shapes:sleep_and_add', handler: 'custom_handlers:await_and_double'}")
    hooked.run("import asyncio, shapes; assert asyncio.run(shapes.sleep_and_add(1, 2)) == 6")


@pytest.mark.parametrize(
    "path", ["custom_handlers:missing", "custom_handlers:not_callable", "no_such_module:f"]
)
def test_a_handler_that_cannot_be_had_is_replaced_by_the_timer_and_a_warning(
    hooked: Program, path: str
) -> None:
    hooked.hook(f"- {{symbol: 'shapes:add', handler: '{path}'}}")
    _, err = hooked.run("import shapes; assert shapes.add(1) == 2")
    assert path.partition(":")[2] in err
    assert len(hooked.capture().named("add")) == 1


@pytest.mark.parametrize("handler", ["fail_before", "fail_after"])
def test_a_failing_handler_does_not_change_the_call_and_is_removed_after_five(
    hooked: Program, handler: str
) -> None:
    hooked.hook(f"- {{symbol: 'shapes:Shape.describe', handler: 'custom_handlers:{handler}'}}")
    _, err = hooked.run(
        CALLED
        + """
class Counting(shapes.Shape):
    runs = 0
original = shapes.Shape.describe
for n in range(8):
    assert shapes.Shape().describe(n) == {"args": (n,), "kwargs": {}}
if custom_handlers.calls:
    assert len(custom_handlers.calls) == 5, custom_handlers.calls
"""
    )
    assert "a handler's own mistake" in err
    assert err.count("a handler's own mistake") <= 6, "five failures, and why it was removed"


def test_the_originals_own_errors_are_not_the_handlers(hooked: Program) -> None:
    hooked.hook("- {symbol: 'shapes:fail', handler: 'custom_handlers:note_and_call'}")
    hooked.run(
        CALLED
        + """
for n in range(8):
    try:
        shapes.fail(shapes.UNHAPPY)
    except shapes.UnhappyError as error:
        assert error is shapes.UNHAPPY
assert len(custom_handlers.calls) == 8, "the hook was removed"
"""
    )
