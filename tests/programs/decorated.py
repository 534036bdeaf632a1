"""Functions that decorate themselves, for symbols that name them too."""

from __future__ import annotations

from typing import Any

import msprof_rs


@msprof_rs.timed(name="timed")
def function(x: int) -> int:
    return x


@msprof_rs.timed(name="outer")
@msprof_rs.timed(name="inner")
def twice(x: int) -> int:
    return x


def later(x: int) -> int:
    return x


def handler(original: Any, this: int) -> Any:
    with msprof_rs.span("handled"):
        return original(this)


class Worker:
    @msprof_rs.timed(name="timed")
    def work(self) -> int:
        return 1

    @staticmethod
    @msprof_rs.timed(name="timed")
    def advise() -> int:
        return 2

    @property
    @msprof_rs.timed(name="timed")
    def state(self) -> int:
        return 3
