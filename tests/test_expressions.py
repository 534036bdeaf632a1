"""An expression changes nothing that it looks at, and what it takes of time and memory has a bound."""

from __future__ import annotations

import json
import re

from program import Program

WALKS = [
    "value | sorted",
    "sum(value)",
    "min(value)",
    "max(value)",
    "any(value)",
    "all(value)",
    "3 in value",
    "9 not in value",
    "value.keys() | len",
    "value.items()",
    "value.values()",
    "value[0]",
    "value[1:]",
    "value | get 0",
    "len(value)",
    "value | str",
    "value | repr",
    "value | bool",
    "value | type",
    "value + value",
    "value - value",
    "value * 2",
    "'%s' % value",
    "value == value",
    "value < 3",
    "views - value",
    "user + value",
    "value",
]


def symbols(function: str, expressions: list[str]) -> str:
    """A symbol with an attribute for each expression; JSON is YAML."""
    attributes = [{"name": f"a{n}", "expr": expr} for n, expr in enumerate(expressions)]
    return json.dumps([{"symbol": function, "attributes": attributes}])


def test_no_expression_takes_items_from_the_program(hooked: Program) -> None:
    (hooked.folder / "oneshot.py").write_text(
        "def take(value, views, user): pass\ndef give(value, views, user): return value\n"
    )
    (hooked.folder / "lines.txt").write_text("3\n" * 5)
    (hooked.folder / "rows.csv").write_text("3,4\n" * 5)
    taken = json.loads(symbols("oneshot:take", WALKS))
    given = json.loads(symbols("oneshot:give", [expr.replace("value", "return") for expr in WALKS[:7]]))
    hooked.hook(json.dumps(taken + given))
    out, err = hooked.run(
        """
        import collections, csv, itertools, os, sqlite3, sys, tempfile
        sys.path.insert(0, ".")
        import oneshot, values

        database = sqlite3.connect(":memory:")
        tempfile = tempfile.TemporaryFile("w+")
        tempfile.write("3\\n" * 5)
        tempfile.seek(0)
        one_shot = [
            (n for n in range(5)),
            map(int, "01234"),
            filter(None, "abcde"),
            zip("abcde", range(5)),
            enumerate("abcde"),
            reversed([1, 2, 3, 4, 5]),
            iter([1, 2, 3, 4, 5]),
            iter({1: 2, 3: 4, 5: 6, 7: 8, 9: 10}),
            itertools.islice(itertools.count(), 5),
            itertools.tee(range(5))[0],
            itertools.chain("ab", "cde"),
            open("lines.txt"),
            open("lines.txt", "rb"),
            tempfile,
            csv.reader(open("rows.csv")),
            database.execute("values (1), (2), (3), (4), (5)"),
            values.Shared(range(5)),
            values.Drained(range(5)),
        ]
        views, user = {1: 2, 3: 4}.items(), collections.UserList([1])
        for value in one_shot:
            oneshot.take(value, views, user)
            oneshot.take([value], views, {"k": value})
            assert oneshot.give(value, views, user) is value
            print(type(value).__name__, len(list(value)))
        with os.scandir(".") as entries:
            oneshot.take(entries, views, user)
            print("scandir", len(list(entries)) > 2)
        async def numbers():
            for n in range(5):
                yield n
        async def count(value):
            return len([n async for n in value])
        value = numbers()
        oneshot.take(value, views, user)
        try:
            count(value).send(None)
        except StopIteration as end:
            print("async", end.value)
        """
    )
    told = dict(line.rsplit(" ", 1) for line in out.splitlines())
    assert len(told) == 19  # two are files, some of the same class
    assert told.pop("scandir") == "True"
    assert told == dict.fromkeys(told, "5")
    # Each attribute says once that it asked for what it must not have.
    refused = re.findall(r"(oneshot:\w+: attribute a\d+) .* Refused: a generator gives each item once", err)
    assert len(refused) == len(set(refused))
    assert len([attribute for attribute in refused if attribute.startswith("oneshot:give")]) == 7


def test_what_can_be_walked_again_is_walked(program: Program) -> None:
    program.hook(symbols("values:take", ["sum(value)", "3 in value", "value | sorted", "max(value)"]))
    program.run(
        """
        import array, collections, numpy, values
        items = [1, 3, 2]
        class Row(collections.abc.Sequence):
            def __len__(self): return 3
            def __getitem__(self, index): return items[index]
        class Kept(list):
            def __iter__(self): return iter([7])
        mapping = dict.fromkeys(items)
        for value in (
            items, tuple(items), set(items), frozenset(items), mapping, mapping.keys(), range(1, 4),
            dict(zip("abc", items)).values(), bytes(items), bytearray(items), memoryview(bytes(items)),
            array.array("i", items), collections.deque(items), collections.OrderedDict(mapping),
            collections.defaultdict(int, mapping), collections.Counter(mapping), collections.UserList(items),
            collections.ChainMap(mapping), Row(), Kept(items), numpy.array(items),
        ):
            values.take(value)
        """
    )
    spans = program.capture().spans
    assert len(spans) == 21
    for span in spans:
        assert span.attributes == {"a0": 6, "a1": True, "a2": [1, 2, 3], "a3": 3}


def test_a_key_that_is_missing_is_not_put_into_the_mapping(program: Program) -> None:
    program.hook(
        symbols(
            "values:take",
            ["value['k']", "value.get('k', 7)", "value['there']", "'%(k)s' % value", "value[1:2]"],
        )
    )
    program.run(
        """
        import collections, values
        class Made(dict):
            def __missing__(self, key): self[key] = 1
        class User(collections.UserDict):
            def __missing__(self, key): self.data[key] = 1
        for value in collections.defaultdict(list, there=3), Made(there=3), User(there=3):
            values.take(value)
            assert dict(value) == {"there": 3}, value
        """
    )
    assert [span.attributes for span in program.capture().spans] == [{"a1": 7, "a2": 3}] * 3


TOO_MUCH = [
    "sorted(endless)",
    "sum(endless)",
    "max(numbers)",
    "any(numbers)",
    "7 in numbers",
    "sorted(range)",
    "'a' in range",
    "sum(items)",
    "'a' in items",
    "items == items",
    "items[1:]",
    "items + items",
    "items | str",
    "items | repr",
    "deque | str",
    "deque",
    "request | str",
    "tree | str",
    "mapping | str",
    "mapping.items()",
    "mapping.values() | sum",
    "'x' * many",
    "many * 'x'",
    "'x' * 10000000 * 1000",
    "range[0:3] * many",
    "sized * sized",
    "few * many",
    "few * huge",
    "huge * huge",
    "huge // 3",
    "huge | str",
    "huge",
    "-huge",
    "'%1000000000d' % 1",
    "'%.1000000000f' % 1.5",
    "'%*d' % pair",
    "'%s' % items",
    "round(7, 0 - many)",
    "round(decimal)",
    "int(decimal)",
    "int(digits)",
    "text * 3",
    "text[0:2000000]",
    "'x' in text",
    "column + row",
    "column == row",
]


def test_what_would_be_too_much_is_refused_in_bounded_memory(program: Program) -> None:
    (program.folder / "much.py").write_text(
        "def take(endless, numbers, range, items, deque, request, tree, mapping, many, sized, few, huge,"
        " pair, decimal, digits, text, column, row): pass\n"
    )
    program.hook(symbols("much:take", TOO_MUCH))
    out, err = program.run(
        """
        import collections, decimal, itertools, resource, sys
        sys.path.insert(0, ".")
        import much, numpy, values
        items, tree = [1] * 3_000_000, [0] * 64
        for _ in range(5):
            tree = [tree] * 64
        arguments = (
            itertools.count(), values.Numbers(), range(10**18), items, collections.deque(items),
            values.Request(items), tree, dict.fromkeys(range(1_000_000), 1), 10**9, values.Sized(), [0],
            10**100_000, (10**9, 1), decimal.Decimal("1e999999999"), "9" * 1_000_000, "y" * 3_000_000,
            numpy.zeros((100_000, 1)), numpy.zeros((1, 100_000)),
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        much.take(*arguments)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    )
    assert int(out) < 64 * 1024  # KiB
    (span,) = program.capture().spans
    assert span.attributes == {}
    for n, expression in enumerate(TOO_MUCH):
        assert f"attribute a{n} is left out" in err, expression


def test_a_value_in_a_value_is_written_only_so_often(program: Program) -> None:
    program.hook(symbols("values:take", ["value"]))
    out, _ = program.run(
        """
        import resource, values
        tree = [0] * 1000
        for _ in range(5):
            tree = [tree] * 1000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        values.take(tree)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    )
    assert int(out) < 64 * 1024  # KiB


def test_the_text_of_a_container_in_itself_is_pythons(program: Program) -> None:
    program.hook(symbols("values:take", ["value | str", "value == value", "value"]))
    program.run("import values; value = [1]; value.append(value); values.take(value)")
    (span,) = program.capture().spans
    assert span.attributes["a0"] == "[1, [...]]"


AS_IN_PYTHON: list[tuple[str, object]] = [
    ("'%5.2f%%' % 1.5", " 1.50%"),
    ("'%s' % 'text'", "text"),
    ("'ab' * 3", "ababab"),
    ("3 * 4 - 2", 10),
    ("7 % 4 + 7 // 4", 4),
    ("'a' + 'b'", "ab"),
    ("round(1234.567, 0 - 2)", 1200.0),
    ("round(2.5)", 2),
    ("int('42') + int(4.7)", 46),
    ("sum(value, 4)", 10),
    ("value[1:]", [2, 3]),
    ("value * 2", [1, 2, 3, 1, 2, 3]),
    ("value + value | len", 6),
    ("value == value", True),
    ("min(3, 1, 2)", 1),
]


def test_what_is_not_too_much_is_as_in_python(program: Program) -> None:
    program.hook(symbols("values:take", [expression for expression, _ in AS_IN_PYTHON]))
    program.run("import values; values.take([1, 2, 3])")
    (span,) = program.capture().spans
    assert span.attributes == {f"a{n}": value for n, (_, value) in enumerate(AS_IN_PYTHON)}
