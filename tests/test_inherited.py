"""A symbol that names what a class inherits records that class's calls; which code runs does not change."""

from __future__ import annotations

import json

import pytest

from program import Program

PRELUDE = """
import asyncio, json, family
from family import Base, Both, Line, Made, Mixin, Other, Sub
base, sub, other, both, line = Base(), Sub(), Other(), Both(), Line()
def resized(it):
    it.size = 3
    return it.given
"""


@pytest.mark.parametrize(
    ("name", "expression", "value", "calls"),
    [
        ("Sub.method", "[it.method() for it in (sub, other, base)]", ["base"] * 3, 1),
        ("Sub.method", "both.method()", "mixin>base", 1),
        ("Sub.method", "Mixin().method()", "mixin>base", 0),
        ("Sub.method", "[Base.method(sub), Sub.method(base), sub.method.__func__(both)]", ["base"] * 3, 2),
        ("Sub.method", "family.late()", "mixin>base", 1),
        ("Sub.method", "[family.patched(), sub.method()]", ["patched", "base"], 1),
        ("Sub.method", "family.exchanged()", "exchanged", 0),
        ("Sub.method", "['method' in vars(Sub), Sub.method is Base.method]", [False, True], 0),
        ("Sub.later", "[asyncio.run(it.later()) for it in (sub, base)]", ["later"] * 2, 1),
        ("Sub.kind", "[it.kind() for it in (Sub, Base, Both, Other, sub)]",
         ["Sub", "Base", "Both", "Other", "Sub"], 3),
        ("Sub.kind", "'kind' in vars(Sub)", False, 0),
        ("Sub.size", "[it.size for it in (sub, base, both)]", [1, 1, 1], 2),
        ("Sub.size.setter", "[resized(it) for it in (sub, base)]", [3, 3], 1),
        ("Sub.catalogue", "[it.catalogue for it in (sub, base)]", [[1], [1]], 1),
        ("Sub.double", "[it.double() for it in (sub, base)]", [2, 2], 1),
        ("Sub.__len__", "[len(it) for it in (sub, base)]", [7, 7], 1),
        ("Sub.__init__", "[Both().made_by, Mixin().made_by, Sub().made_by]",
         [["Base", "Mixin"], ["Base", "Mixin"], ["Base"]], 4),
        ("Sub.__new__", "[type(it()).__name__ for it in (Sub, Base, Both)]", ["Sub", "Base", "Both"], 4),
        ("Line.get", "[line.put(1), line.get()]", [None, 1], 1),
        ("one.method", "[family.one.method(), sub.method()]", ["base", "base"], 1),
        ("one.method", "'method' in vars(family.one)", False, 0),
        ("one.double", "[family.one.double(), sub.double()]", [2, 2], 1),
        ("sub_caller", "[family.sub_caller(), family.SubCaller()(), '__call__' in vars(family.SubCaller)]",
         ["called", "called", False], 1),
    ],
)  # fmt: skip
def test_calls_of_the_class_that_is_named_are_recorded_and_all_calls_do_what_they_did(
    hooked: Program, name: str, expression: str, value: object, calls: int
) -> None:
    hooked.hook(f"- {{symbol: 'family:{name}', name: seen}}")
    out, err = hooked.run(PRELUDE + f"print(json.dumps({expression}))")
    assert json.loads(out) == value
    assert "WARN" not in err
    assert len(hooked.capture().named("seen")) == calls


@pytest.mark.parametrize("handler", ["", ", attributes: [{name: it, expr: 'this | str'}]", ", sample: 1/2"])
def test_whatever_a_hook_does_it_does_it_for_its_own_class(hooked: Program, handler: str) -> None:
    hooked.hook(f"- {{symbol: 'family:Sub.method', name: seen{handler}}}")
    hooked.run(PRELUDE + "for it in [base, sub] * 4: it.method()")
    assert len(hooked.capture().named("seen")) == (2 if "sample" in handler else 4)


@pytest.mark.parametrize(("name", "value"), [("static", "static"), ("first", 7)])
def test_where_no_call_tells_its_class_all_are_recorded_which_one_line_says(
    hooked: Program, name: str, value: object
) -> None:
    hooked.hook(f"- {{symbol: 'family:Sub.{name}', name: seen}}")
    argument = "[7]" if name == "first" else ""
    out, err = hooked.run(PRELUDE + f"print([it.{name}({argument}) for it in (Sub, Base)])")
    assert out.strip() == str([value, value])
    assert len(hooked.capture().named("seen")) == 2
    (line,) = [line for line in err.splitlines() if "WARN" in line]
    assert f"symbols.yaml:1: family:Sub.{name} is Base's: its calls through other classes" in line


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "Made.make",
            "is a method of the metaclass `Meta`, which objects of the class don't have; name `Meta",
        ),
        ("Sub.__call__", "is a method of the metaclass `type`, which objects of the class don't have"),
        ("Made.dreamt", "stands in no class: the metaclass `Meta` makes it"),
        ("Made.missing", "no attribute 'missing'"),
        ("lazy", "does not stand in the module: its `__getattr__` or class makes it"),
    ],
)
def test_what_stands_nowhere_is_not_hooked_which_is_told_with_the_reason(
    hooked: Program, name: str, reason: str
) -> None:
    hooked.hook(f"- {{symbol: 'family:{name}', name: seen}}")
    out, err = hooked.run(
        PRELUDE
        + """
print(type(Made.make()).__name__, hasattr(Made(), "make"), Made.dreamt(), callable(sub), family.lazy())
family.IMPLEMENTATIONS["lazy"] = lambda: "second"
print(family.lazy())
"""
    )
    assert out.split() == ["Made", "False", "dreamt", "False", "first", "second"]
    (line,) = [line for line in err.splitlines() if "not hooked" in line]
    assert reason in line
    assert not hooked.capture().named("seen")


def test_heirs_of_one_base_have_hooks_of_their_own_which_come_and_go_alone(hooked: Program) -> None:
    both = "- {symbol: 'family:Sub.method', name: sub}\n- {symbol: 'family:Other.method', name: other}\n"
    hooked.hook(both)
    hooked.run(
        PRELUDE
        + f"""
def call():
    for it in (base, sub, other): it.method()
def exchange(symbols):
    msprof_rs.stop()
    with open("symbols.yaml", "w") as file: file.write(symbols)
    msprof_rs.start()
    call()
call()
exchange({both.splitlines()[1]!r})
exchange("- {{symbol: 'elsewhere:f'}}")
assert type(vars(Base)["method"]) is type(lambda: 0)
assert "method" not in vars(Sub) and "method" not in vars(Other)
"""
    )
    assert [span.name for span in hooked.capture().spans] == ["sub", "other", "other"]


def test_the_base_and_its_heir_can_both_be_named(hooked: Program) -> None:
    hooked.hook(
        """
        - {symbol: "family:Sub.method", name: heir}
        - {symbol: "family:Base.method", name: base}
        """
    )
    hooked.run(PRELUDE + "sub.method(); base.method()")
    assert [span.name for span in hooked.capture().spans] == ["base", "heir", "base"]


def test_each_version_of_a_class_is_recorded_though_its_base_stays(hooked: Program) -> None:
    (hooked.folder / "version.py").write_text("import family\nclass Version(family.Base): pass\n")
    hooked.hook("- {symbol: 'version:Version.method', name: seen}")
    hooked.run(
        """
        import gc, sys, weakref
        sys.path.insert(0, ".")
        alive, versions = weakref.WeakSet(), []
        for kept in (True, True, False, False):
            import version
            alive.add(version.Version)
            versions.append(version.Version)
            for each in versions: each().method()
            if not kept: versions.clear()
            del sys.modules["version"], version, each
        gc.collect()
        assert not alive
        import version
        version.Version().method()
        """
    )
    assert len(hooked.capture().named("seen")) == 1 + 2 + 3 + 1 + 1
