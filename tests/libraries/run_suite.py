"""Runs the tests of a library and writes the outcome of each. Hooked, if the environment says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import msprof_rs  # noqa: F401  first: it hooks what is imported from here on


class Outcomes:
    """By test id; of a test that failed, also what went wrong."""

    def __init__(self) -> None:
        self.outcomes: dict[str, list[str]] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that can't be imported has tests that are not there."""
        if not report.passed:
            self.outcomes[report.nodeid] = [f"collection {report.outcome}", report.longreprtext]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Setup, call and teardown; those that only passed are left out but for the call."""
        if report.when == "call" or not report.passed:
            expected = "expected " if hasattr(report, "wasxfail") else ""
            outcome = f"{report.when} {expected}{report.outcome}"
            self.outcomes.setdefault(report.nodeid, []).append(outcome)
            if report.failed:
                self.outcomes[report.nodeid].append(report.longreprtext)


if __name__ == "__main__":
    outcomes = Outcomes()
    code = pytest.main(sys.argv[2:], plugins=[outcomes])
    Path(sys.argv[1]).write_text(json.dumps(outcomes.outcomes, indent=1))
    sys.exit(code)
