"""A hooked callable answers as the bare one: programs with and without hooks are asked the same questions.

Each line of the tables is one, an expression in `programs/questions.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from program import Program

FUNCTION = """
identity(m.plain)
[inspect.getsource(m.plain), inspect.getsourcefile(m.plain), inspect.getdoc(m.plain)]
[m.plain.__defaults__, m.plain.__kwdefaults__, m.plain.__code__.co_name, m.plain.__closure__]
pydoc.plaintext.document(m.plain)
m.plain.__globals__ is vars(m)
m.plain.note, vars(m.plain), m.plain.__dict__ is vars(m.plain)
with_attribute(m.plain)
changed(m.plain, __defaults__=('z',))
changed(m.plain, __kwdefaults__={'c': 'set'})
changed(m.plain, __doc__='another', __name__='other')
raised(lambda: m.plain.nothing)
raised(lambda: setattr(m.plain, '__name__', 1))
raised(lambda: m.plain())
m.plain.__call__(1), m.plain.__get__(1)()
operator.call(m.plain, 1) if hasattr(operator, 'call') else ''
[pickle.loads(pickle.dumps(m.plain, p)) is m.plain for p in range(pickle.HIGHEST_PROTOCOL + 1)]
[pickle._dumps(m.plain, p) for p in range(pickle.HIGHEST_PROTOCOL + 1)]
pickle.loads(cloudpickle.dumps(m.plain)) is m.plain, by_value(m.plain, 1), by_value(m.wrapping, 2)
copy.copy(m.plain) is m.plain, copy.deepcopy({'f': [m.plain]})['f'][0] is m.plain
copy.copy(m.wrapping) is m.wrapping, copy.deepcopy([m.wrapping])[0] is m.wrapping
m.table[m.plain], {m.plain: 1}[next(iter(m.table))], m.plain in set(m.table), m.plain in list(m.table)
m.plain == next(iter(m.table)), next(iter(m.table)) == m.plain, m.plain.__eq__(m.plain)
m.plain.__ne__(1)
m.plain == m.coroutine, m.plain != m.coroutine, m.plain == 1, m.plain is None
weakref.WeakKeyDictionary({m.plain: 1})[m.plain], len(weakref.WeakSet([m.plain, m.plain]))
weakref.proxy(m.plain)(1), weakref.getweakrefcount(m.plain) >= 0
functools.wraps(m.plain)(lambda: 1).__wrapped__ is m.plain
vars(functools.wraps(m.plain)(lambda: 1)).keys()
str(inspect.signature(functools.wraps(m.plain)(lambda: 1)))
functools.partial(m.plain, 1)(), repr(functools.partial(m.plain, 1))
functools.partial(m.plain, 1).func == m.plain
functools.lru_cache(m.plain)(3), functools.cache(m.plain).__wrapped__ is m.plain
functools.singledispatch(m.plain)(3), functools.singledispatch(lambda x: 0).register(int, m.plain)(1)
functools.reduce(m.plain, [1, 2, 3]), sorted([2, 1], key=m.plain), list(map(m.plain, 'ab'))
type('C', (), {'f': m.plain})().f(), type('C', (), {'f': staticmethod(m.plain)}).f(1)
type('C', (), {'f': property(m.plain)})().f[-6:], type('C', (), {'f': classmethod(m.plain)}).f()[-6:]
type('C', (), {'f': functools.partialmethod(m.plain, 1)})().f()[-6:]
type('C', (), {'f': functools.cached_property(m.plain)}).f.func is m.plain
types.MethodType(m.plain, 1)(), types.MethodType(m.plain, 1) == types.MethodType(m.plain, 1)
isinstance(m.plain, types.FunctionType), isinstance(m.plain, collections.abc.Callable)
callable(m.plain)
isinstance(m.plain, typing.Hashable), isinstance(m.plain, types.BuiltinFunctionType)
inspect.getcallargs(m.plain, 1), inspect.getfullargspec(m.plain), inspect.getclosurevars(m.plain)
inspect.getattr_static(m.plain, 'note'), inspect.getmodule(m.plain), inspect.isdatadescriptor(m.plain)
patched('plain'), patched('plain', autospec=True)
[f.__name__ for f in typing.get_overloads(m.plain)] if hasattr(typing, 'get_overloads') else ''
(update := functools.update_wrapper(m.plain, m.wrapping)) is m.plain, m.plain.__wrapped__ is m.plain
delattr(m.plain, '__wrapped__'), hasattr(m.plain, '__wrapped__')
m.wrapping(1), m.wrapping.__wrapped__ == m.plain, inspect.unwrap(m.wrapping).__name__
identity(m.wrapping)
"""

METHOD = """
identity(Base.method), identity(Derived().method)
Derived().method(2), Base.method(Derived(), 2), Derived(5).times()
operator.methodcaller('method')(Derived())
Base.method.role, Derived().method.__func__ is Derived.__dict__['method'], Derived().method.__self__
(d := Derived()).method == d.method, hash(d.method) == hash(d.method), d.method in [d.method]
d.method is d.method
Derived(1).method == Derived(1).method, {(e := Derived()).method: 1}[e.method]
inspect.ismethod(Derived().method), inspect.isfunction(Base.method), inspect.getsource(Base.method)
str(inspect.signature(Base.method)), str(inspect.signature(Derived().method))
pydoc.plaintext.document(Base.method)
[n for n, _ in inspect.getmembers(Base, inspect.isfunction)]
inspect.classify_class_attrs(Derived)[0].kind
[pickle.loads(pickle.dumps(Base.method, p)) is Base.method for p in range(pickle.HIGHEST_PROTOCOL + 1)]
pickle.loads(pickle.dumps(Derived(3).method))(1), copy.copy(Derived(3).method)(1)
copy.deepcopy(Derived(3).method)(1)
patched_method('method'), patched_method('method', autospec=True), Base.method.__get__(Derived())(3)
list(map(Derived().method, [1, 2])), super(Derived, Derived()).method()
Base.__dict__['method'](Derived())
weakref.WeakMethod(d.method)()(), weakref.WeakMethod(d.method) == weakref.WeakMethod(d.method)
type('Sub', (Derived,), {'method': Base.method})().method()
"""

MADE = """
[m.cached(2), m.cached(2), m.cached.cache_info(), m.cached.cache_parameters(), m.cached.cache_clear()]
[identity(f) for f in (m.cached, m.added, m.dispatched, m.opened, m.opened_later, m.free)]
[raised(lambda: copy.copy(f) is f) for f in (m.cached, m.dispatched, m.opened, m.free, m.coroutine)]
[raised(lambda: copy.deepcopy(f) is f) for f in (m.cached, m.dispatched, m.opened, m.free, m.coroutine)]
m.added(), m.added.func == m.plain, m.added.args, m.added.keywords
isinstance(m.added, functools.partial)
functools.partial(m.added, b='y')(), pickle.loads(pickle.dumps(m.added))(), copy.copy(m.added)()
m.dispatched(1), m.dispatched(''), m.dispatched.dispatch(bool).__name__, list(m.dispatched.registry)
m.dispatched.register(str, lambda value: 'str')(''), m.dispatched('')
m.opened('a').__enter__(), m.opened(lambda: 1) and 1, asyncio.run(entered(m.opened_later('b')))
m.opened('a')(lambda: 5)()
m.free(1), m.free.__wrapped__.__name__
m.recursive(10), by_value(m.recursive, 4)
asyncio.run(m.coroutine(1)), kinds(m.coroutine), inspect.isawaitable(c := m.coroutine(1)), c.close()
"""

NATIVE = """
identity(m.square_root), identity(m.upper), identity(m.default_rng)
identity(m.digest)
m.square_root(4), m.digest(b'a').hexdigest(), m.upper('a'), m.default_rng(1).integers(9)
m.square_root == m.math.sqrt, m.math.sqrt == m.square_root, hash(m.square_root) == hash(m.math.sqrt)
pickle.loads(pickle.dumps(m.square_root))(9), copy.copy(m.square_root) is m.square_root
pickle.loads(pickle.dumps(m.default_rng))(1).integers(9), copy.deepcopy(m.default_rng) is m.default_rng
m.square_root.__self__, m.square_root.__name__, raised(lambda: m.square_root('a')), m.upper.__objclass__
raised(lambda: setattr(m.square_root, 'a', 1)), raised(lambda: m.square_root.__dict__)
hasattr(m.square_root, '__get__'), hasattr(m.upper, '__get__'), hasattr(m.added, '__get__')
type('C', (), {'f': m.square_root})().f(4), type('C', (), {'f': m.upper})
"""

IN_CLASS = """
Derived().root(4), Base.root(9), Derived().fixed(), Base.fixed(), raised(lambda: Derived().loud())
Base.loud('a')
[type(Base.__dict__[name]) is staticmethod for name in ('root', 'fixed', 'loud', 'static')]
Derived(2).decorated(1), Base.decorated(Derived(2), 1), Derived(2).decorated(a=1)
raised(lambda: Base.decorated())
Derived().static(1), Base.static(2), Derived().of_class(1), Base.of_class(2), Derived.of_class.__self__
identity(Base.static), identity(Base.of_class), identity(Base.__init__), identity(Base.Nested.inner)
(d := Derived(2)).remembered(1), d.remembered(1), Base.remembered.cache_info()
identity(Base.remembered)
[raised(lambda: copy.copy(f) is f) for f in (Base.remembered, Base.decorated, Base.static, Base.__init__)]
[raised(lambda: copy.deepcopy(f) is f) for f in (Base.remembered, Base.decorated, Base.static, Base.__init__)]
Derived().promised(), Base.__abstractmethods__, raised(lambda: Base())
Base.promised.__isabstractmethod__
Derived(3).size, Derived()(4), Derived(1) == Derived(1), Derived(1) < Derived(2), len(Derived(3))
bool(Derived(0))
hash(Derived(2)), {Derived(2): 1}[Derived(2)], sorted([Derived(2), Derived(1)])[0].size
[w.size for w in [Derived(2)] for _ in [w.__enter__()]], Derived().__exit__(1)
Derived.__call__(Derived(), 1)
contextlib.ExitStack().enter_context(Derived(2)).size, Base.Nested().inner()
Base.Nested.inner.__qualname__
functools.total_ordering(type('T', (Derived,), {'__lt__': Base.__lt__}))(1) >= Derived(1)
copy.copy(Derived(4)).size, copy.deepcopy(Derived(4)).size, pickle.loads(pickle.dumps(Derived(4))).size
Point(1), Point(1) == Point(1, 1), Point(1) < Point(2), dataclasses.asdict(Point(2))
dataclasses.replace(Point(1), x=3)
identity(Point.__init__), identity(Point.__repr__), str(inspect.signature(Point))
inspect.signature(Base)
type('Made', (Base,), {'promised': Base.method})().promised(), Base.__subclasshook__(int)
"""

OBJECT = """
identity(m.desk), type(m.desk), m.desk.__class__, m.desk is next(iter(m.desks)), m.desks[m.desk]
m.desk(), m.desk(2), m.desk.__call__(a=3), list(map(m.desk, [1, 2])), m.Desk()(4)
len(m.desk), m.desk[0], list(m.desk), 2 in m.desk, bool(m.desk), m.desk + 1, 1 + m.desk, m.desk | 2
[10, 20][m.desk], m.desk == m.Desk(), m.desk != 1, hash(m.desk), m.desk.whatever, m.desk.items
contextlib.ExitStack().enter_context(m.desk), asyncio.run(entered(m.desk))
copy.copy(m.desk).items, pickle.loads(pickle.dumps(m.desk))(5), copy.deepcopy(m.desk) is m.desk
str(inspect.signature(m.desk)), inspect.signature(m.Desk.__call__), vars(m.desk), weakref.ref(m.desk)()(6)
functools.partial(m.desk, 7)(), functools.wraps(m.desk)(lambda: 1).__wrapped__ is m.desk
"""

IN_BASE = (
    "root", "fixed", "loud", "decorated", "static", "of_class", "remembered", "promised",
    "__new__", "__init__", "__enter__", "__exit__", "__call__", "__eq__", "__lt__",
    "__hash__", "__len__", "Nested.inner",
)  # fmt: skip
IN_POINT = ["__init__", "__post_init__", "__eq__", "__lt__", "__repr__"]


@pytest.mark.parametrize(
    ("symbols", "questions"),
    [
        pytest.param(["plain", "wrapping"], FUNCTION, id="function"),
        pytest.param(["Base.method", "Derived.method"], METHOD, id="method"),
        pytest.param(["Base.method"], METHOD, id="method of the base"),
        pytest.param(
            ["cached", "added", "dispatched", "opened", "opened_later", "free", "recursive", "coroutine"],
            MADE, id="made by decorators",
        ),
        pytest.param(["desk"], OBJECT, id="an object"),
        pytest.param(["square_root", "digest", "upper", "default_rng"], NATIVE, id="native"),
        pytest.param(
            [*(f"Base.{name}" for name in IN_BASE), *(f"Point.{name}" for name in IN_POINT)],
            IN_CLASS, id="in a class",
        ),
    ],
)  # fmt: skip
def test_a_hooked_callable_answers_as_the_bare_one(
    hooked: Program, tmp_path: Path, symbols: list[str], questions: str
) -> None:
    hooked.hook("".join(f"- {{symbol: 'introspected:{name}'}}\n" for name in symbols))
    bare = Program(tmp_path / "bare")
    bare.hook("- {symbol: 'nowhere:nothing'}")
    code = f"import questions; questions.answer_all({questions.split(chr(10))[1:-1]!r})"
    answer, expected = (json.loads(program.run(code)[0]) for program in (hooked, bare))
    for question in expected:
        assert answer[question] == expected[question], question
    assert {span.name for span in hooked.capture().spans} >= {name.rpartition(".")[2] for name in symbols}


def test_routes_and_dependencies_of_fastapi_work_as_before(hooked: Program) -> None:
    names = ["user_of", "guard", "Pages.page", "Pages.__call__", "shown"]
    hooked.hook("".join(f"- {{symbol: 'web:{name}'}}\n" for name in names))
    out, _ = hooked.run(
        """
        import web
        from fastapi import Depends, FastAPI
        from fastapi.testclient import TestClient

        app = FastAPI()
        app.get("/shown/{item}", dependencies=[Depends(web.guard)])(web.shown)
        app.add_api_route("/listed", web.pages.page)

        @app.get("/joined")
        def joined(
            user: str = Depends(web.user_of),
            page: int = Depends(web.pages),
            both: list[int] = Depends(web.pages.page),
        ):
            return [user, page, both]

        client = TestClient(app)
        assert client.get("/shown/3?loud=1&level=2").json() == {"item": 3, "loud": True}
        assert client.get("/listed?page=4").json() == [4, 10]
        assert client.get("/listed?size=x").status_code == 422
        assert client.get("/joined?page=5", headers={"x-user": "ann"}).json() == ["ann", 5, [5, 10]]
        paths = client.get("/openapi.json").json()["paths"]
        assert [it["name"] for it in paths["/shown/{item}"]["get"]["parameters"]] == ["item", "loud", "level"]
        assert paths["/shown/{item}"]["get"]["summary"] == "Shown"
        print(web.guarded)
        """
    )
    assert out == "['level 2']\n"
    calls = {span.name for span in hooked.capture().spans}
    assert calls == {name.rpartition(".")[2] for name in names}


def test_wrappers_come_and_go_without_a_trace(hooked: Program) -> None:
    hooked.hook("- {symbol: 'introspected:Base.method'}\n- {symbol: 'introspected:plain'}")
    out, _ = hooked.run(
        """
        import copy, gc, inspect, pickle, sys, weakref
        import introspected as m
        d = m.Derived()
        def use():
            bound = d.method
            bound(1), m.plain(1), m.Base.method, hash(bound), bound == d.method
            copy.copy(m.plain), dir(m.plain), m.plain.__call__, m.Base.method.__get__(d)
            pickle.dumps(m.plain), inspect.getattr_static(m.plain, "note"), copy.deepcopy([m.plain])
            weakref.ref(bound), weakref.ref(m.plain)
            try: m.plain.nothing
            except AttributeError: pass
        watched = [m.plain, m.Base.__dict__["method"], type(m.plain), m.table.__iter__().__next__(), d]
        def count():
            gc.collect()
            return [sys.getrefcount(it) for it in watched]
        use()
        before = count()
        for _ in range(1000):
            use()
        print([now - then for now, then in zip(count(), before)], gc.collect())
        """
    )
    assert out == "[0, 0, 0, 0, 0] 0\n"
