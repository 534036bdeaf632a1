"""Which handlers fit which targets, and what becomes of those that do not fit or fail."""

from __future__ import annotations

from typing import Any

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
assert shapes.add(a=1, b=3) == 4
calls = custom_handlers.calls
assert calls == [("int", (), {"b": 2}), ("NoneType", (), {"a": 1, "b": 3})], calls
"""
    )


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


@pytest.mark.parametrize(
    ("handler", "symbol", "problem"),
    [
        ("async def handler(original, this): ...", "counted:double", "it is async, and the target is not"),
        (
            "class Handler:\n    async def __call__(self, original, this): ...\nhandler = Handler()",
            "counted:double",
            "it is async, and the target is not",
        ),
        ("class handler: ...", "counted:double", "without `__enter__` and `__exit__`"),
        ("class handler: ...", "counted:slow_double", "without `__enter__` and `__exit__`"),
        ("def handler(ctx): yield", "counted:count_to", "only be around the making of the generator"),
    ],
)
def test_a_handler_that_does_not_fit_its_target_is_refused_when_it_is_hooked(
    hooked: Program, handler: str, symbol: str, problem: str
) -> None:
    hooked.hook(f"- {{symbol: '{symbol}', handler: '__main__:handler'}}")
    _, err = hooked.run(f"{handler}\nimport counted; assert list(counted.count_to(2)) == [0, 1]")
    assert f"__main__:handler can't be used for {symbol}" in err
    assert problem in err


@pytest.mark.parametrize("handler", ["fail_before", "fail_after"])
def test_a_failing_handler_does_not_change_the_call_and_is_replaced_by_the_timer_after_five(
    hooked: Program, handler: str
) -> None:
    hooked.hook(f"- {{symbol: 'shapes:Shape.describe', handler: 'custom_handlers:{handler}'}}")
    _, err = hooked.run(
        CALLED
        + """
for n in range(8):
    assert shapes.Shape().describe(n) == {"args": (n,), "kwargs": {}}
assert len(custom_handlers.calls) == 5, custom_handlers.calls
"""
    )
    assert_failures_were_told(err)
    assert len(hooked.capture().named("describe")) == 3


def assert_failures_were_told(err: str) -> None:
    """Four warnings, then one error with the traceback."""
    lines = err.splitlines()
    assert len([line for line in lines if "[WARNING]" in line or "[WARN]" in line]) == 4, err
    (last,) = (n for n, line in enumerate(lines) if "[ERROR]" in line)
    assert "has failed 5 times" in lines[last]
    assert lines[last + 1] == "    Traceback (most recent call last):", err


FAILING: dict[str, tuple[str, str]] = {
    "function": ("counted:double", "def handler(original, this, *args): raise ValueError('mine')"),
    "async": ("counted:slow_double", "async def handler(original, this, *args): raise ValueError('mine')"),
    "context before": ("counted:double", "def handler(ctx):\n    raise ValueError('mine')\n    yield"),
    "context after": ("counted:double", "def handler(ctx):\n    yield\n    raise ValueError('mine')"),
    "context of a coroutine": (
        "counted:slow_double",
        "def handler(ctx):\n    yield\n    raise ValueError('mine')",
    ),
}


@pytest.mark.parametrize("kind", FAILING)
def test_handlers_of_all_kinds_are_replaced_by_the_timer_after_five_failures(
    hooked: Program, kind: str
) -> None:
    symbol, handler = FAILING[kind]
    hooked.hook(f"- {{symbol: '{symbol}', handler: '__main__:handler', name: timer}}")
    _, err = hooked.run(
        handler
        + """
import asyncio, counted, inspect
for n in range(8):
    for call in (counted.double, counted.slow_double):
        result = call(n)
        assert (asyncio.run(result) if inspect.isawaitable(result) else result) == [2 * n]
assert counted.runs == [n // 2 for n in range(16)], counted.runs
"""
    )
    assert_failures_were_told(err)
    assert err.count("mine") >= 5
    assert len(hooked.capture().named("timer")) == 3


def test_a_handler_is_only_called_while_its_domain_is_collected(hooked: Program) -> None:
    hooked.configure(domain="Other")
    hooked.hook("- {symbol: 'shapes:add', handler: 'custom_handlers:note_and_call', domain: Mine}")
    hooked.run(CALLED + "assert shapes.add(1) == 2 and custom_handlers.calls == []")


GUIDE = """
def custom_handler(original_func, this, *args, **kwargs):
    '''
    Customize handler functions

    Args:
        original_func: original function object
        this: calling object (for method calling)
        *args: position parameter
        **kwargs: keyword arguments

    Returns:
        Handling result
    '''
    # Custom handling logic
    pass
"""
"""The template of msServiceProfiler's guide, word for word."""


@pytest.mark.parametrize(
    ("body", "result", "runs"),
    [("pass", None, []), ("return original_func(this, *args, **kwargs)", 5, [2])],
)
def test_the_handler_of_msserviceprofilers_guide_does_what_its_body_says(
    hooked: Program, body: str, result: Any, runs: list[int]
) -> None:
    hooked.hook("- {symbol: 'counted:Box.grow', handler: '__main__.custom_handler', domain: Example}")
    code = GUIDE.replace("    pass\n", f"    {body}\n")
    _, err = hooked.run(
        f"{code}import counted\nassert counted.Box(3).grow(by=2) == {result}\nassert counted.runs == {runs}"
    )
    assert ("taken at its word" in err) == (body == "pass")
