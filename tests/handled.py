"""Runs a few lines that call the targets of `programs/counted.py`, with a handler on one of them."""

from __future__ import annotations

import textwrap

from program import Program

PRELUDE = """
import asyncio, counted, inspect, threading
from counted import Box, RefusedError, runs
"""


def run(program: Program, handler: str, code: str, symbol: str = "counted:double") -> str:
    """The code of `handler` defines a `handler`. Gives what the profiler said on standard error."""
    program.hook(f"- {{symbol: '{symbol}', handler: '__main__:handler'}}")
    # The target is hooked when it is imported, and the handler must be there by then.
    return program.run(textwrap.dedent(handler) + PRELUDE + textwrap.dedent(code))[1]
