"""What a symbol can name, wherever it stands, and under which other names it is found."""

from __future__ import annotations

import json

import pytest

from program import Program

PRELUDE = """
import asyncio, json, places
from places import Borrower, LargeStore, Store
store = Store()
def changed(name, value):
    setattr(store, name, value)
    return store._size
def deleted(name):
    delattr(store, name)
    return store._size
"""


@pytest.mark.parametrize(
    ("symbol", "expression", "value", "calls"),
    [
        ("Store.size", "[store.size, changed('size', 4), store.size]", [1, 4, 4], 2),
        ("Store.size.getter", "[store.size, LargeStore().size]", [1, 1], 2),
        ("Store.size.setter", "[store.size, changed('size', 4), store.size]", [1, 4, 4], 1),
        ("Store.size.deleter", "[deleted('size'), store.size]", [0, 0], 1),
        ("LargeStore.size", "[store.size, LargeStore().size]", [1, 1], 1),
        ("Store.size", "Store.size.__doc__", "How much fits in.", 0),
        ("Store.size", "type(Store.__dict__['size']).__name__", "property", 0),
        ("Store.catalogue", "[store.catalogue, store.catalogue]", [[1], [1]], 1),
        ("LargeStore.catalogue", "[store.catalogue, LargeStore().catalogue]", [[1], [1]], 1),
        ("Store.double", "[store.double(), LargeStore().double()]", [2, 2], 2),
        ("Store.multiply", "[store.multiply(3), LargeStore().multiply(by=3)]", [3, 3], 2),
        ("Store.remembered", "[store.remembered(2), store.remembered(2)]", [6, 6], 2),
        ("Store.remembered", "[store.remembered(2), Store.remembered.cache_info().misses]", [6, 1], 1),
        ("Store.plus", "store.plus(1, 2)", 3, 1),
        ("Store.__call__", "store(1)", 2, 1),
        ("Store.Shelf.label", "Store.Shelf().label()", "top", 1),
        ("Store.__secret", "[store.opened(2), LargeStore().opened(3)]", [4, 6], 2),
        ("Store._Store__secret", "store.opened(2)", 4, 1),
        ("LargeStore.__secret", "[store.opened(2), LargeStore().opened(3)]", [4, 6], 1),
        ("Store.__state", "store.opened(2)", 4, 1),
        ("Store.__state.setter", "[store.opened(2), store.opened(3)]", [4, 6], 2),
        ("LargeStore.multiply", "[LargeStore().multiply(2), store.multiply(2)]", [2, 2], 1),
        ("LargeStore.__init__", "LargeStore().size", 1, 1),
        ("count", "[places.count(), places.also_count(), Borrower.tally(2)]", [1, 1, 3], 3),
        ("Store.multiply", "[Borrower().times(2), store.multiply(2)]", [10, 2], 2),
        ("count_from_ten", "[places.count_from_ten(), places.count_from_ten.args[0]]", [11, 10], 1),
        ("cached", "[places.cached(3), places.cached(3), places.cached.cache_info().misses]", [9, 9, 1], 2),
        ("describe", "[places.describe('x'), places.describe(1)]", ["thing", "number"], 2),
        ("describe", "places.describe.registry[int].__name__", "_", 0),
        ("clerk", "[places.clerk(1), places.clerk(1, times=2), places.colleague(1)]", [2, 3, 3], 2),
        ("clerk", "[len(places.clerk), places.clerk is store.clerk, store.clerk(2)]", [1, True, 3], 1),
        ("Store.clerk", "[store.clerk(2), Store.clerk(2), places.colleague(2)]", [3, 3, 4], 2),
        ("trainee", "[places.trainee(1), places.Trainee()(1), places.clerk(1)]", [4, 2, 2], 1),
        ("Clerk.__call__", "[places.clerk(1), places.colleague(1), places.trainee(1)]", [2, 3, 4], 3),
        ("courier", "[asyncio.run(places.courier(1)), asyncio.run(places.Courier()(2))]", [1, 2], 1),
    ],
)  # fmt: skip
def test_every_place_gives_its_value_and_its_spans(
    hooked: Program, symbol: str, expression: str, value: object, calls: int
) -> None:
    hooked.hook(f"- {{symbol: 'places:{symbol}', name: seen}}")
    out, err = hooked.run(PRELUDE + f"print(json.dumps({expression}))")
    assert json.loads(out) == value
    assert "not hooked" not in err
    assert len(hooked.capture().named("seen")) == calls


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("Store.size", "size"),
        ("Store.size.setter", "size.setter"),
        ("Store.catalogue", "catalogue"),
        ("Store.__secret", "__secret"),
        ("Store.__state", "__state"),
        ("Store.__state.setter", "__state.setter"),
        ("count", "count"),
    ],
)
def test_a_span_is_called_what_the_place_is_called(hooked: Program, symbol: str, name: str) -> None:
    hooked.hook(f"- {{symbol: 'places:{symbol}'}}")
    hooked.run(PRELUDE + "store.size, changed('size', 2), store.catalogue, store.opened(1), places.count()")
    assert {span.name for span in hooked.capture().spans} == {name}


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        ("Store.nothing", "no attribute 'nothing'"),
        ("nothing", "no attribute 'nothing'"),
        ("Store", "is a class; name its `__init__`"),
        ("Store.__doc__", "is a str and can't be called"),
        ("Store.Shelf.label.setter", "no attribute 'setter'"),
        ("Borrower.__new__", "is `object`'s; name a method that the class or a base defines"),
    ],
)
def test_what_can_not_be_hooked_is_told_with_its_line_and_the_rest_goes_on(
    hooked: Program, symbol: str, reason: str
) -> None:
    hooked.hook(f"- {{symbol: 'places:{symbol}'}}\n- {{symbol: 'places:count'}}")
    _, err = hooked.run(PRELUDE + "places.count()")
    (line,) = [line for line in err.splitlines() if "not hooked" in line]
    assert f"symbols.yaml:1: places:{symbol} is not hooked" in line
    assert reason in line
    assert len(hooked.capture().named("count")) == 1


def test_objects_of_one_class_have_hooks_of_their_own(hooked: Program) -> None:
    hooked.hook(
        """
        - {symbol: "places:clerk", attributes: [{name: paid, expr: "times + this.bonus"}]}
        - {symbol: "places:colleague"}
        - {symbol: "places:Clerk.__call__", name: all}
        """
    )
    hooked.run(PRELUDE + "places.clerk(1, 2), places.colleague(1), places.Clerk()(1)")
    spans = [(span.name, span.attributes) for span in hooked.capture().spans]
    assert spans == [("all", {}), ("clerk", {"paid": 3}), ("all", {}), ("colleague", {}), ("all", {})]


def test_a_property_without_setter_is_not_given_one(hooked: Program) -> None:
    (hooked.folder / "readonly.py").write_text("class A:\n    @property\n    def x(self): return 1\n")
    hooked.hook("- {symbol: 'readonly:A.x.setter'}")
    _, err = hooked.run("import readonly", PYTHONPATH=str(hooked.folder))
    assert "the property has no setter" in err


def test_a_class_with_two_names_is_hooked_once_by_a_pattern(hooked: Program) -> None:
    package = hooked.folder / "zoo"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cats.py").write_text("class Cat:\n    def purr(self): return 'rrr'\nTomcat = Cat\n")
    hooked.hook("- {symbol: 'zoo.*:*.purr'}")
    hooked.run("import zoo.cats; zoo.cats.Tomcat().purr()", PYTHONPATH=str(hooked.folder))
    assert len(hooked.capture().named("purr")) == 1


def test_a_pattern_keeps_to_its_versions(hooked: Program) -> None:
    package = hooked.folder / "zoo"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cats.py").write_text("class Cat:\n    def purr(self): pass\n    def hiss(self): pass\n")
    hooked.hook(
        """
        - {symbol: "zoo.*:C*.purr", min_version: 0.9, max_version: 0.10.2}
        - {symbol: "zoo.*:C*.hiss", min_version: 0.11}
        """
    )
    code = "import zoo.cats; zoo.cats.Cat().purr(); zoo.cats.Cat().hiss()"
    hooked.run(code, PYTHONPATH=str(hooked.folder), MSPROF_FRAMEWORK_VERSION="0.10.0")
    assert [span.name for span in hooked.capture().spans] == ["purr"]


WATCHED = """
import sys, types
SEEN = []
class Watching(type):
    def __getattribute__(cls, name):
        SEEN.append(("class", "get", name))
        return super().__getattribute__(name)
    def __setattr__(cls, name, value):
        SEEN.append(("class", "set", name))
        super().__setattr__(name, value)
    def __delattr__(cls, name):
        SEEN.append(("class", "delete", name))
        super().__delattr__(name)
class Base:
    def inherited(self): return 1
class Watched(Base, metaclass=Watching):
    def own(self): return 2
    def __private(self): return 3
    def opened(self): return self.__private()
    @property
    def size(self): return 4
    other = own
class WatchingModule(types.ModuleType):
    def __getattribute__(self, name):
        if not name.startswith("__"):  # those are the import's
            SEEN.append(("module", "get", name))
        return super().__getattribute__(name)
    def __setattr__(self, name, value):
        SEEN.append(("module", "set", name))
        super().__setattr__(name, value)
def f(): return Watched().own()
also_f = f
sys.modules[__name__].__class__ = WatchingModule
SEEN.clear()
"""


def test_no_code_of_a_metaclass_or_a_class_of_modules_sees_hooks_come_and_go(hooked: Program) -> None:
    (hooked.folder / "watched.py").write_text(WATCHED)
    names = ["f", "Watched.own", "Watched.inherited", "Watched.__private", "Watched.size", "Watch*.opened"]
    hooked.hook("\n".join(f"- {{symbol: 'watched:{name}', name: seen}}" for name in names))
    _, err = hooked.run(
        """
        import sys, msprof_rs
        sys.path.insert(0, ".")
        import watched
        SEEN = watched.__dict__["SEEN"]
        def values():
            f, Watched = watched.__dict__["also_f"], watched.__dict__["Watched"]
            it = Watched()
            return [f(), it.own(), it.other(), it.inherited(), it.opened(), it.size]
        assert SEEN == [], SEEN
        assert values() == [2, 2, 2, 1, 3, 4]
        msprof_rs.stop()
        with open("symbols.yaml", "w") as symbols:
            symbols.write("- {symbol: 'elsewhere:f'}")
        SEEN.clear()
        msprof_rs.start()
        assert [seen for seen in SEEN if seen[1] != "get" or seen[2] != "__instancecheck__"] == [], SEEN
        assert values() == [2, 2, 2, 1, 3, 4]
        """
    )
    assert "not hooked" not in err
    # `f` and `opened` each call another one.
    assert len(hooked.capture().named("seen")) == 8
