"""Many threads at once: every result right, every span there, none twice. Many calls in a row: nothing stays.

With `TORTURE` in the environment (`make torture`): a million calls in each thread.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from program import Program

THREADS = 32


def test_every_call_of_32_threads_is_right_and_there_once(hooked: Program) -> None:
    hooked.hook("- {symbol: 'crowds:swap', domain: Test, attributes: [{name: pair, expr: pair}]}")
    hooked.run(f"import crowds; crowds.call_in_threads({THREADS}, 2_000)")
    capture = hooked.capture()
    assert capture.dropped == 0
    pairs = [tuple(span.attributes["pair"]) for span in capture.named("swap")]
    assert len(pairs) == THREADS * 2_000
    assert set(pairs) == {(thread, call) for thread in range(THREADS) for call in range(2_000)}


@pytest.mark.skipif("TORTURE" not in os.environ, reason="32 million calls are for `make torture`")
def test_32_million_calls_are_all_there_or_counted(hooked: Program) -> None:
    hooked.hook("- {symbol: 'crowds:swap', domain: Test}")
    hooked.run(f"import crowds; crowds.call_in_threads({THREADS}, 1_000_000)")
    tally = subprocess.run(
        ["cargo", "run", "--quiet", "--release", "--example", "tally", "--", str(hooked.prof_dir)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = tally.stdout.split()
    counts = dict(zip(lines[::2], map(int, lines[1::2]), strict=True))
    spans = sum(count for name, count in counts.items() if name.startswith("worker-"))
    print(tally.stdout)
    assert (counts["orphans"], counts["unfinished"]) == (0, 0)
    # A begin that found no room is one dropped event and no span.
    assert spans + counts["dropped"] == THREADS * 1_000_000


def test_nothing_that_passed_through_a_hook_stays(hooked: Program) -> None:
    hooked.hook(
        """
        - {symbol: "crowds:Thing.method", attributes: [{name: a, expr: "args[1] | str"}]}
        - {symbol: "crowds:give", attributes: [{name: b, expr: return | str}, {name: c, expr: more | len}]}
        - {symbol: "crowds:fail", attributes: [{name: thing, expr: thing | str}]}
        - {symbol: "crowds:wait", attributes: [{name: result, expr: return | str}]}
        - {symbol: "crowds:wait_and_fail"}
        - {symbol: "crowds:items", attributes: [{name: thing, expr: thing | str}]}
        - {symbol: "crowds:aitems"}
        - {symbol: "crowds:handled", handler: "crowds:through"}
        - {symbol: "crowds:badly_handled", handler: "crowds:failing_handler"}
        """
    )
    hooked.run("import crowds; crowds.check_for_leaks(400)")
    assert len(hooked.capture().named("wait")) > 400
