"""Random programs whose spans end in any order: each has its own times, also for a trace processor.

After each step of a program an event says its number: so it is known between which two a span began and
ended.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from capture import Capture
from perfetto_sql import NODE, TraceProcessor
from program import Program

BATCHES = max(1, int(os.environ.get("TORTURE", "12")) // 6)
PROGRAMS = 12
"""In a batch, which is one process."""
ACTORS = ["generator 0", "generator 1", "greenlet 0", "greenlet 1", "greenlet 2", "thread 0", "thread 1"]

Step = tuple[str, str, str]
Numbers = list[tuple[int, int, int]]
folders = itertools.count()


class Batch:
    """The steps of some programs, and where each span begins and ends among them."""

    def __init__(self, programs: list[Numbers]) -> None:
        self.steps: list[Step] = [("generator first", "enter", "first")]
        self.truth: dict[str, list[int]] = {"first": [0]}
        self.plain = 0
        for number, program in enumerate(programs):
            self._program(number, program)

    def _program(self, program: int, numbers: Numbers) -> None:
        within: dict[str, list[str]] = {}
        by_hand: list[str] = []
        for actor_number, choice, pick in numbers:
            actor = ACTORS[actor_number].replace(" ", f" {program}.")
            open_spans = within.setdefault(actor, [])
            if choice < 5 and open_spans:
                self._step(actor, "end", open_spans.pop())
            elif choice < 7 and "generator" not in actor:
                open_spans.append(f"plain_{self.plain}")
                self.plain += 1
                self._step(actor, "call", open_spans[-1])
            elif choice < 8 and by_hand:
                self._step(actor, "exit", by_hand.pop(pick % len(by_hand)))
            elif choice < 9:
                by_hand.append(f"by hand {len(self.steps)}")
                self._step(actor, "enter", by_hand[-1])
            else:
                open_spans.append(f"span {len(self.steps)}")
                self._step(actor, "span", open_spans[-1])

    def _step(self, actor: str, what: str, name: str) -> None:
        self.truth.setdefault(name, []).append(len(self.steps))
        self.steps.append((actor, what, name))


def compare(batch: Batch, capture: Capture) -> None:
    """The capture's spans, and the truth."""
    times = {event.attributes["n"]: event.start for event in capture.instants if event.name == "step"}
    spans = {span.name: span for span in capture.spans}
    assert len(spans) == len(capture.spans)
    assert spans.keys() == batch.truth.keys()
    for name, (begin, *ends) in batch.truth.items():
        span = spans[name]
        assert times.get(begin - 1, 0) <= span.start <= times[begin], name
        if ends:
            assert times[ends[0] - 1] <= span.end <= times[ends[0]], name
        else:
            assert span.duration is None, name


def compare_with_trace_processor(capture: Capture) -> None:
    """What a person sees who opens the file: the same durations, and nothing that has another one."""
    with TraceProcessor(b"".join(file.read_bytes() for file in capture.files)) as processor:
        assert processor.errors() == []
        rows = processor.query("select name, dur from slice where dur != 0")
    seen = sorted((str(row["name"]), row["dur"]) for row in rows if row["dur"] != -1)
    assert seen == sorted((span.name, span.duration) for span in capture.spans if span.duration)


def test_every_span_has_its_own_times_whatever_switches_within_it(tmp_path: Path) -> None:
    numbers = st.tuples(st.integers(0, len(ACTORS) - 1), st.integers(0, 11), st.integers(0, 100))

    @settings(
        max_examples=BATCHES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.lists(numbers, min_size=30, max_size=60), min_size=PROGRAMS, max_size=PROGRAMS))
    def run(programs: list[Numbers]) -> None:
        batch = Batch(programs)
        program = Program(tmp_path / str(next(folders)))
        entries = [{"symbol": f"any_order:plain_{n}", "name": f"plain_{n}"} for n in range(batch.plain)]
        program.hook(json.dumps(entries))
        program.run(f"import os, any_order\nany_order.run({batch.steps!r})\nmsprof_rs.stop()\nos._exit(0)")
        capture = program.capture()
        assert capture.dropped == 0
        compare(batch, capture)
        if NODE:
            compare_with_trace_processor(capture)

    run()
