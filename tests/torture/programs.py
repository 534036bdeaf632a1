"""Random modules full of callables of every kind, and random calls of them, as Python text."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

HEADER = """\
import asyncio, contextlib, functools, sys, threading
LOG = []
TOGGLES = []  # as many items as there are to be toggles

class Trouble(Exception):
    pass

def note(*what):
    LOG.append(what)

def toggle():  # collection, where there is any, in the midst of a call
    profiler = sys.modules.get("msprof_rs")
    if profiler is not None and TOGGLES:
        TOGGLES.pop()
        profiler.stop()
        profiler.start()
"""

NAMES = ["a", "b", "c", "d"]
ONCE = [[name] for name in NAMES]
VALUES = st.sampled_from(["0", "1", "-3", "2.5", "'x'", "''", "None", "True", "(1, 2)", "[3]", "{'k': 4}"])
ATTRIBUTES = [
    "args | len",
    "args[1] | str",
    "kwargs | len",
    "return | str",
    "return | len",
    "this.size + 1",
    "a if a else 'none'",
    "nowhere.to.be.found",
]


@dataclass(repr=False)
class Program:
    """A module, what of it is hooked, what is called, and what daemon threads still do when all is over."""

    source: str
    symbols: list[str]
    calls: list[str]
    attributes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@dataclass
class Parameters:
    """The parameters of a function, and a call's arguments that fit them (or not)."""

    text: str
    names: list[str]


STATEMENTS = ["call", "caught", "callback", "again", "closure", "error", "finally", "wait", "toggle"]
WAIT = [
    "try:",
    "    await asyncio.sleep(0)",
    "except asyncio.CancelledError:",
    "    note('cancelled')",
    "    raise",
]


@st.composite
def parameters(draw: st.DrawFn) -> Parameters:
    """Positional-only, plain, variable and keyword-only ones, with and without defaults."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    positional_only = draw(st.integers(0, len(names)))
    keyword_only = draw(st.integers(0, len(names) - positional_only))
    with_default = draw(st.integers(0, len(names)))
    parts = []
    for index, name in enumerate(names):
        if index == len(names) - keyword_only:
            parts.append(draw(st.sampled_from(["*", "*args"])))
        default = f"={draw(VALUES)}" if index >= len(names) - with_default else ""
        parts.append(name + default)
        if index + 1 == positional_only:
            parts.append("/")
    if keyword_only == 0 and draw(st.booleans()):
        parts.append("*args")
        names = [*names, "args"]
    if draw(st.booleans()):
        parts.append("**kwargs")
        names = [*names, "kwargs"]
    if "*args" in parts and "args" not in names:
        names = [*names, "args"]
    return Parameters(", ".join(parts), names)


@st.composite
def arguments(draw: st.DrawFn) -> str:
    """Any arguments: many do not fit, which must fail in the same way."""
    positional = draw(st.lists(VALUES, max_size=3))
    keywords = draw(st.lists(st.sampled_from([*NAMES, "other"]), unique=True, max_size=2))
    starred = draw(st.sampled_from([[], [], ["*[7, 8]"], ["**{'d': 9}"]]))
    keyword = [
        f"{name}={draw(VALUES)}" for name in keywords if not (starred == ["**{'d': 9}"] and name == "d")
    ]
    if starred == ["*[7, 8]"]:
        return ", ".join([*positional, *starred, *keyword])
    return ", ".join([*positional, *keyword, *starred])


@st.composite
def body(
    draw: st.DrawFn, kind: str, name: str, parameters: Parameters, callees: list[str], method: bool
) -> list[str]:
    """Statements: notes, calls of earlier functions, errors that are caught or not, closures, a result."""
    seen = "".join(f", {parameter}" for parameter in parameters.names)
    lines = [f"note({name!r}{seen})"]
    for _ in range(draw(st.integers(0, 3))):
        statement = draw(st.sampled_from(STATEMENTS))
        callee = draw(st.sampled_from(callees)) if callees else "note"
        call = f"{callee}({draw(arguments())})"
        if statement == "call":
            lines.append(f"note('got', repr({call})[:60])")
        elif statement == "callback":
            lines.append(f"note('mapped', repr(list(map({callee}, [1, 0])))[:60])")
        elif statement == "again" and kind == "def" and parameters.names[:1] in ONCE and not method:
            # None ends it; it would not if it arrived in `*args`.
            lines += [f"if {parameters.names[0]}:", f"    note('again', repr({name}(None))[:60])"]
        elif statement == "caught":
            lines += [
                "try:",
                f"    note({call})",
                "except Exception as error:",
                "    note('caught', type(error).__name__)",
            ]
        elif statement == "closure":
            lines += ["def inner(x=1):", f"    return ({name!r}, x{seen})", "note(inner(2))"]
        elif statement == "error" and parameters.names:
            condition = parameters.names[0]
            chained = draw(st.sampled_from(["", " from ValueError('cause')", " from None"]))
            lines += [f"if {condition}:", f"    raise Trouble({name!r}){chained}"]
        elif statement == "finally":
            lines += ["try:", f"    note({call})", "finally:", "    note('finally')"]
        elif statement == "toggle":
            lines.append("toggle()")
        elif statement == "wait":
            lines += WAIT if kind in ("async", "agen") else ["pass"]
    result = draw(st.sampled_from([*parameters.names, "1", "'result'", "None", "[1, 2, 3]"]))
    if kind in ("gen", "agen"):
        lines += ["try:", f"    note('sent', (yield {result}))"]
        lines += draw(st.sampled_from([[], ["except Trouble as error:", "    note('thrown', error.args)"]]))
        lines += ["finally:", "    note('left')", f"yield {draw(VALUES)}"]
        if kind == "gen":
            lines.append(f"return {result}")
    else:
        lines.append(f"return {result}")
    return lines


KEYWORDS = {"def": "def", "async": "async def", "gen": "def", "agen": "async def"}

# How a call of each kind is carried out, so that what it makes is also run.
USES = {
    "def": ["{call}"],
    "async": [
        "asyncio.run({call})",
        "{call}.close()",
        "asyncio.run(both({call}, {call}))",
        "asyncio.run(cancelled({call}))",
    ],
    "gen": [
        "list({call})",
        "next({call})",
        "list(delegate({call}))",
        "sent({call})",
        "thrown({call})",
        "closed({call})",
    ],
    "agen": [
        "asyncio.run(collect({call}))",
        "asyncio.run(first({call}))",
        "asyncio.run(sent_later({call}))",
        "asyncio.run(thrown_later({call}))",
        "asyncio.run(closed_later({call}))",
    ],
}

HELPERS = """
async def both(*coroutines):
    return await asyncio.gather(*coroutines, return_exceptions=True)

async def collect(items):
    return [item async for item in items]

async def first(items):
    async for item in items:
        return item

def delegate(items):
    note((yield from items))

def sent(items):
    return [next(items), items.send('sent')]

def thrown(items):
    return [next(items), items.throw(Trouble('thrown'))]

def closed(items):
    return [next(items), items.close(), next(items, 'over')]

async def sent_later(items):
    return [await anext(items), await items.asend('sent')]

async def thrown_later(items):
    return [await anext(items), await items.athrow(Trouble('thrown'))]

async def closed_later(items):
    return [await anext(items), await items.aclose(), await anext(items, 'over')]

async def cancelled(coroutine):
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    task.cancel()
    return await asyncio.gather(task, return_exceptions=True)

def in_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results
"""


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A module of functions and classes."""
    lines: list[str] = [HEADER, HELPERS]
    symbols: list[str] = []
    uses: list[tuple[str, str]] = []  # a callable, and the kind of what it gives
    plain: list[str] = []  # what may be called from the functions that follow

    def define(indent: str, name: str, kind: str, first: str = "") -> None:
        takes = draw(parameters())
        inside = draw(body(kind, name, takes, plain, method=bool(indent)))
        head = ", ".join(part for part in (first, takes.text) if part)
        lines.append(f"{indent}{KEYWORDS[kind]} {name}({head}):")
        if draw(st.booleans()):
            lines.append(f'{indent}    """What {name} does."""')
        lines.extend(f"{indent}    {line}" for line in inside)

    for number in range(draw(st.integers(1, 4))):
        name, kind = f"f{number}", draw(st.sampled_from(list(USES)))
        if kind == "def" and draw(st.booleans()):
            lines.append(draw(st.sampled_from(["@functools.lru_cache(None)", "@functools.singledispatch"])))
        elif kind == "gen" and draw(st.booleans()):
            lines.append("@contextlib.contextmanager")
            kind = "def"
            define("", name, "gen")
            symbols.append(name)
            uses.append((name, "def"))
            continue
        define("", name, kind)
        symbols.append(name)
        uses.append((name, kind))
        if kind == "def":
            plain.append(name)
        if draw(st.booleans()):
            lines.append(f"also_{name} = {name}")
            uses.append((f"also_{name}", kind))
        if draw(st.booleans()):
            lines.append(f"partial_{name} = functools.partial({name}, 5)")
            symbols.append(f"partial_{name}")
            uses.append((f"partial_{name}", kind))
    base = ""
    for number in range(draw(st.integers(0, 2))):
        name = f"C{number}"
        lines.append(f"class {name}({base}):" if base else f"class {name}:")
        lines.append("    size = 3")
        for method in ("m", "n"):
            kind = draw(st.sampled_from(list(USES)))
            holder = draw(st.sampled_from(["", "", "@staticmethod", "@classmethod"]))
            if holder:
                lines.append("    " + holder)
            define("    ", method, kind, {"": "self", "@staticmethod": "", "@classmethod": "cls"}[holder])
            symbols.append(f"{name}.{method}")
            uses.append((f"{name}().{method}", kind))
        if base and draw(st.booleans()):
            lines += ["    def m(self, *args, **kwargs):", "        return super().m(*args, **kwargs)"]
        if draw(st.booleans()):
            lines += ["    @property", "    def p(self):", "        note('p')", "        return self.size"]
            lines += ["    @p.setter", "    def p(self, value):", "        self.size = value"]
            symbols += [f"{name}.p", f"{name}.p.setter"]
            uses.append((f"(lambda *a, **k: {name}().p)", "def"))
            uses.append((f"(lambda *a, **k: setattr({name}(), 'p', a))", "def"))
        if draw(st.booleans()):
            lines += ["    class Inner:", "        def deep(self, a=1):", "            return a"]
            symbols.append(f"{name}.Inner.deep")
            uses.append((f"{name}.Inner().deep", "def"))
        if base:
            symbols += draw(st.sampled_from([[], [f"{name}.n"]]))
        base = name
    calls = []
    for _ in range(draw(st.integers(3, 8))):
        callee, kind = draw(st.sampled_from(uses))
        call = f"{callee}({draw(arguments())})"
        use = draw(st.sampled_from(USES[kind])).format(call=call)
        calls.append(
            draw(
                st.sampled_from([use, use, f"in_thread(lambda: {use})", f"list(map(lambda x: {use}, 'ab'))"])
            )
        )
    symbols += draw(st.lists(st.sampled_from(symbols), max_size=2)) if symbols else []
    attributes = draw(st.lists(st.sampled_from(ATTRIBUTES), max_size=3, unique=True))
    # A call that starts threads could do so for ever.
    left = [call for call in calls if not call.startswith("in_thread")][: draw(st.integers(0, 1))]
    return Program("\n".join(lines) + "\n", symbols, calls, attributes, left)
