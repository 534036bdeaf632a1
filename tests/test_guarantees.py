"""The page of promises names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "guarantees.md"


def test_every_promise_names_tests_that_there_are() -> None:
    lines = PAGE.read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and "| promise |" not in line]
    assert len(rows) > 20
    for row in rows:
        tests = re.findall(r"`((?:tests|src)/[\w/.]+)`", row.split("|")[-2])
        assert tests, f"no test holds this: {row}"
        for test in tests:
            assert re.search(r"def test_|#\[test\]", (REPOSITORY / test).read_text()), test
