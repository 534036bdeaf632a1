"""What an expression may look at, and whether it is still as it was; a line of input has three names."""

from __future__ import annotations

import array
import collections
import decimal
import io
import itertools
import resource
import sys
from collections.abc import Callable, Iterator
from typing import Any

import values

MAKE: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "number": lambda: 3,
    "negative": lambda: -7,
    "many": lambda: 10**9,
    "huge": lambda: 1 << 100_000,
    "real": lambda: 2.5,
    "decimal": lambda: decimal.Decimal("1e99999999"),
    "text": lambda: "k3",
    "format": lambda: "%099999999d %s",
    "bytes": lambda: b"%9999999s",
    "long": lambda: "x" * 2_000_000,
    "list": lambda: [3, 1, 2],
    "tuple": lambda: (1, "k3"),
    "big": lambda: [0] * 400_000,
    "dict": lambda: {"k3": 1, 3: [4]},
    "missing": lambda: collections.defaultdict(list, k=1),
    "set": lambda: {1, 2, 3},
    "keys": lambda: {1: 2}.keys(),
    "deque": lambda: collections.deque([3, 1]),
    "array": lambda: array.array("i", [3, 1]),
    "user": lambda: collections.UserList([3, 1]),
    "range": lambda: range(10**15),
    "own": lambda: values.Own([3, 1]),
    "sized": values.Sized,
    "numbers": values.Numbers,
    "generator": lambda: (n for n in range(4)),
    "map": lambda: map(str, range(4)),
    "zip": lambda: zip("ab", [3, 1], strict=True),
    "counter": lambda: itertools.islice(itertools.count(), 4),
    "endless": itertools.count,
    "file": lambda: io.StringIO("3\n1\n"),
    "shared": lambda: values.Shared([3, 1]),
    "drained": lambda: values.Drained([3, 1]),
    "nested": lambda: [iter([3, 1])],
}


def take(a: Any, b: Any, c: Any) -> Any:
    return a


def state(value: Any) -> Any:
    """What is in it; takes it all."""
    if isinstance(value, (values.Sized, values.Numbers)):
        return type(value)
    if isinstance(value, (Iterator, values.Shared, values.Drained)):
        return list(itertools.islice(value, 10))
    if isinstance(value, list) and value and isinstance(value[0], Iterator):
        return [state(item) for item in value]
    if isinstance(value, values.Own):
        return list.__getitem__(value, slice(None))
    return list(value) if isinstance(value, collections.abc.KeysView) else value


def main() -> None:
    """Tells what has changed, and by how much the memory grew."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for line in sys.stdin:
        names = line.split()
        used = [MAKE[name]() for name in names]
        take(*used)
        for name, value in zip(names, used, strict=True):
            if state(value) != state(MAKE[name]()):
                print(f"{line.strip()}: {name} has changed")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
