"""What the profiler's own code calls may be hooked: there hooks let calls through."""

from __future__ import annotations

from pathlib import Path

import pytest

from program import Program

CALLS_ITSELF = """
class Request:
    tokens = [1, 2]
    def __len__(self): return len(self.tokens)
    def __getitem__(self, index): return self.tokens[index]
    def __getattr__(self, name): return 0
    @property
    def count(self): return len(self.tokens)
    @property
    def one(self): return 1
    @property
    def other(self): return 2
    def text(self): return "x"
    def __str__(self): return self.text()

class Handled(Request):
    pass
"""


@pytest.mark.parametrize(
    ("symbols", "call", "value"),
    [
        ([("count", "self.count")], "request.count", 2),
        ([("__len__", "len(self)")], "len(request)", 2),
        ([("__getitem__", "self[0]")], "request[1]", 1),
        ([("__getattr__", "self.status")], "request.priority", 0),
        ([("one", "self.other"), ("other", "self.one")], "request.one", 2),
        ([("text", "str(self)")], "request.text()", "x"),
    ],
)
def test_an_attribute_may_call_the_function_that_it_is_of(
    hooked: Program, symbols: list[tuple[str, str]], call: str, value: object
) -> None:
    (hooked.folder / "calling.py").write_text(CALLS_ITSELF)
    hooked.hook(
        "\n".join(
            f"- symbol: calling:Request.{name}\n  attributes: [{{name: it, expr: '{expression}'}}]"
            for name, expression in symbols
        )
    )
    hooked.run(f"import sys; sys.path.insert(0, '.'); import calling; request = calling.Request(); {call}")
    (span,) = hooked.capture().spans
    assert span.attributes == {"it": value}


STANDARD = [
    "abc:ABCMeta.__instancecheck__",
    "abc:ABCMeta.__subclasscheck__",
    "asyncio.events:get_running_loop",
    "contextlib:_GeneratorContextManager.__enter__",
    "contextlib:_GeneratorContextManager.__exit__",
    "contextlib:suppress.__exit__",
    "contextvars:copy_context",
    "copy:copy",
    "enum:Enum.__str__",
    "enum:DynamicClassAttribute.__get__",
    "functools:update_wrapper",
    "importlib:import_module",
    "importlib._bootstrap:_find_spec",
    "inspect:BoundArguments.apply_defaults",
    "inspect:Signature.bind",
    "inspect:isawaitable",
    "inspect:isgeneratorfunction",
    "inspect:signature",
    "inspect:unwrap",
    "io:StringIO.write",
    "json:dumps",
    "logging:Logger.info",
    "os:fspath",
    "os:getpid",
    "re:compile",
    "threading:Thread.name",
    "threading:current_thread",
    "threading:get_ident",
    "typing:cast",
]
"""Functions of the standard library that the profiler's own code calls, has called, or might call."""

PROGRAM = """
import abc, asyncio, collections.abc, contextlib, contextvars, copy, enum, functools, importlib, inspect, io
import json, logging, os, pathlib, re, sys, threading, typing
sys.path.insert(0, ".")

{handler}

import app

class Colour(enum.Enum):
    RED = 1

class Named:
    def __str__(self):
        return threading.current_thread().name + json.dumps([os.fspath(pathlib.Path("/a")), str(Colour.RED)])
    __repr__ = __str__

def use(n):
    with contextlib.suppress(KeyError), manager():
        logging.getLogger("app").info("%s", n)
        isinstance([], collections.abc.Sequence)
        inspect.signature(app.probe).bind(1).apply_defaults()
        re.compile(r"a+")
        typing.cast(int, copy.copy([n]))
        importlib.import_module("json")
        contextvars.copy_context()
        {{}}["missing"]
    return app.probe(Named()), asyncio.run(app.later(Colour.RED))

@contextlib.contextmanager
def manager():
    yield

results = [use(n) for n in range(20)]
threads = [threading.Thread(target=use, args=(n,), name=f"t{{n}}") for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(str(results[0][0]), results[-1][1])
"""

HANDLERS = {
    "timer": "",
    "function": "def handler(original, *args, **kwargs): return original(*args, **kwargs)",
    "context": "def handler(ctx):\n    yield",
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_hooks_on_what_the_profiler_itself_calls_are_harmless(handler: str, hooked: Program) -> None:
    Path(hooked.folder / "app.py").write_text("def probe(it): return it\nasync def later(it): return it\n")
    kind = "" if handler == "timer" else ", handler: '__main__:handler'"
    hooked.hook(
        "\n".join(
            [
                f"- {{symbol: '{name}', attributes: [{{name: it, expr: args | str}}]{kind}}}"
                for name in STANDARD
            ]
            + [
                f"- {{symbol: 'app:{name}', attributes: [{{name: it, expr: it}}]}}"
                for name in ("probe", "later")
            ]
        )
    )
    code = PROGRAM.format(handler=HANDLERS[handler])
    out, err = hooked.run(code)
    assert out == 'MainThread["/a", "Colour.RED"] Colour.RED\n'
    assert not [word for word in ("SystemError", "RecursionError") if word in err], err
    capture = hooked.capture()
    assert capture.dropped == 0
    probes = capture.named("probe")
    assert len(probes) == 24
    assert probes[0].attributes == {"it": 'MainThread["/a", "Colour.RED"]'}
    # The text that it was asked for is not the program's doing.
    assert len(capture.named("later")) == 24
    assert len(capture.spans) < 20_000
