"""Fixtures for the tests that run programs under the profiler."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from program import Program

# A shell ignores these for what it runs in the background, and children inherit that.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

IN_PLACE = sys.version_info >= (3, 12)
"""Whether functions are hooked in place by default; older Pythons have the wrapper only."""

HOOK_KINDS = ["in place", "wrapper"] if IN_PLACE else ["wrapper"]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A folder with a config that switches collection on; the test writes the symbols."""
    return Program(tmp_path)


@pytest.fixture(params=HOOK_KINDS)
def hooked(request: pytest.FixtureRequest, tmp_path: Path) -> Program:
    """The same, once for each way in which a function can be hooked."""
    return Program(tmp_path, force_wrapper=IN_PLACE and request.param == "wrapper")
