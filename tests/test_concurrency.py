"""Many threads and coroutines at once: each call gives its own result, and is one span.

With `TORTURE` in the environment (`make torture`): a million calls in each of the 32 threads.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from capture import Capture
from program import PATIENCE, Program

TORTURE = "TORTURE" in os.environ
THREADS = 32

CROWD = f"""
import asyncio, itertools, json, sys, threading
import crowd
from crowd import Halver, OddError

sys.setswitchinterval(1e-5)  # another thread takes over within many calls

def in_threads(work):
    "Runs work(0), work(1) ... at the same time; gives their results."
    results = [None] * {THREADS}
    start = threading.Barrier({THREADS})
    def run(number):
        start.wait()
        results[number] = work(number)
    threads = [threading.Thread(target=run, args=(number,)) for number in range({THREADS})]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return results

def raised_or_right(number):
    "Whether a call gave its own half, or its own exception."
    try:
        return Halver(number).half() * 2 == number
    except OddError as error:
        return number % 2 == 1 and error.args == (number,)
"""


def test_each_of_32_threads_gets_its_own_outcomes_and_every_call_is_one_span(hooked: Program) -> None:
    calls = 1_000
    hooked.hook(
        """
        - {symbol: "crowd:Halver.half", attributes: [{name: number, expr: this.number}]}
        - {symbol: "crowd:halve", attributes: [{name: number, expr: number}, {name: result, expr: return}]}
        """
    )
    hooked.run(
        CROWD
        + f"""
def work(thread):
    return all([raised_or_right(thread * {calls} + call) for call in range({calls})])
assert in_threads(work) == [True] * {THREADS}
"""
    )
    capture = hooked.capture()
    assert capture.dropped == 0
    numbers = list(range(THREADS * calls))
    for name in ("half", "halve"):
        spans = capture.named(name)
        assert sorted(span.attributes["number"] for span in spans) == numbers
        assert all(("error" in span.attributes) == (span.attributes["number"] % 2 == 1) for span in spans)
        threads = {(span.attributes["number"] // calls, span.tid) for span in spans}
        assert len(threads) == THREADS == len({tid for _, tid in threads}), "a span is with another thread"
    halves = [span for span in capture.named("halve") if "error" not in span.attributes]
    assert all(span.attributes["result"] * 2 == span.attributes["number"] for span in halves)
    outer = {span.attributes["number"]: span for span in capture.named("half")}
    for inner in capture.named("halve"):
        around = outer[inner.attributes["number"]]
        assert around.start <= inner.start <= inner.end <= around.end


def test_what_is_open_in_ten_thousand_coroutines_at_once_does_not_mix(hooked: Program) -> None:
    hooked.hook(
        """
        - symbol: "crowd:wait_and_double"
          attributes: [{name: number, expr: number}, {name: result, expr: return}]
        - {symbol: "crowd:double", attributes: [{name: number, expr: number}]}
        """
    )
    hooked.run(
        CROWD
        + """
async def main():
    gate = asyncio.Event()
    tasks = [asyncio.ensure_future(crowd.wait_and_double(number, gate)) for number in range(10_000)]
    await asyncio.sleep(0)  # now all of them wait
    gate.set()
    assert await asyncio.gather(*tasks) == [2 * number for number in range(10_000)]
asyncio.run(main())
"""
    )
    capture = hooked.capture()
    spans = capture.named("wait_and_double")
    assert sorted(span.attributes["number"] for span in spans) == list(range(10_000))
    assert all(span.attributes["result"] == 2 * span.attributes["number"] for span in spans)
    assert max(span.start for span in spans) < min(span.end for span in spans), "not all were open at once"
    assert sorted(span.attributes["number"] for span in capture.named("double")) == list(range(10_000))
    assert capture.dropped == 0


def test_loops_in_32_threads_and_generators_that_wander_between_them_keep_their_spans(
    hooked: Program,
) -> None:
    hooked.hook(
        """
        - {symbol: "crowd:multiples", attributes: [{name: number, expr: number}]}
        - {symbol: "crowd:slow_multiples", attributes: [{name: number, expr: number}]}
        """
    )
    hooked.run(
        CROWD
        + f"""
async def collect(number):
    return [item async for item in crowd.slow_multiples(number, 5)]

async def collect_all(thread):
    return await asyncio.gather(*(collect(thread * 50 + number) for number in range(50)))

started = [[crowd.multiples(thread * 50 + number, {THREADS}) for number in range(50)]
           for thread in range({THREADS})]
together = threading.Barrier({THREADS})

def work(thread):
    for round in range({THREADS}):  # each thread gives its generators to the next one after one step
        together.wait()
        owner = (thread + round) % {THREADS}
        for number, generator in enumerate(started[owner]):
            assert next(generator) == (owner * 50 + number) * round
    together.wait()
    assert all(next(generator, "exhausted") == "exhausted" for generator in started[thread])
    rows = asyncio.run(collect_all(thread))
    return rows == [[(thread * 50 + number) * factor for factor in range(5)] for number in range(50)]

assert in_threads(work) == [True] * {THREADS}
"""
    )
    capture = hooked.capture()
    assert capture.dropped == 0
    for name, items in (("multiples", THREADS), ("slow_multiples", 5)):
        spans = capture.named(name)
        assert sorted(span.attributes["number"] for span in spans) == list(range(THREADS * 50))
        assert {span.attributes["items"] for span in spans} == {items}
        assert all(span.duration is not None for span in spans)


def test_calls_are_right_and_recorded_at_most_once_while_hooks_come_and_go(hooked: Program) -> None:
    entries = [
        '- {symbol: "crowd:halve", attributes: [{name: number, expr: number}]}\n',
        '- {symbol: "crowd:Halver.half", attributes: [{name: number, expr: this.number}]}\n',
    ]
    files = ["".join(entries), "[]", entries[0], entries[1], entries[1] + entries[0]]
    hooked.configure(enable=0)
    hooked.hook(files[-1])
    hooked.run(
        CROWD
        + f"""
import time
from pathlib import Path
config, symbols = Path({str(hooked.config)!r}), Path({str(hooked.symbols)!r})
stop, numbers = threading.Event(), itertools.count()

def write(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)

def switch(enable):
    write(config, json.dumps(json.loads(config.read_text()) | {{"enable": enable}}))
    while msprof_rs.is_enabled() != bool(enable):
        time.sleep(0.001)

def change_hooks():
    for text in {files!r}:
        write(symbols, text)
        switch(1)
        seen = next(numbers)
        while next(numbers) < seen + 2_000:
            time.sleep(0.001)
        switch(0)
    stop.set()

def work(thread):
    right = True
    while not stop.is_set():
        right = raised_or_right(next(numbers)) and right
        time.sleep(0)
    return right

threading.Thread(target=change_hooks).start()
assert in_threads(work) == [True] * {THREADS}
"""
    )
    names = []
    for session in hooked.sessions():
        capture = Capture(session)
        assert capture.dropped == 0
        names.append({span.name for span in capture.spans})
        for name in ("half", "halve"):
            numbers = [span.attributes["number"] for span in capture.named(name) if span.attributes]
            assert len(numbers) == len(set(numbers)), "a call was recorded twice"
    assert names == [{"half", "halve"}, set(), {"halve"}, {"half"}, {"half", "halve"}]


@pytest.mark.parametrize("attributes", ["", "attributes: [{name: number, expr: number}]"])
def test_what_is_recorded_and_what_is_dropped_make_up_all_calls(hooked: Program, attributes: str) -> None:
    calls = 1_000_000 if TORTURE else 10_000
    hooked.hook(f"- {{symbol: 'crowd:double', {attributes}}}")
    hooked.run(
        CROWD
        + f"""
def work(thread):
    double = crowd.double
    return all(double(number) == 2 * number for number in range({calls}))
assert in_threads(work) == [True] * {THREADS}
""",
        patience=60 * PATIENCE if TORTURE else PATIENCE,
    )
    spans, dropped, account = totals(hooked)
    shutil.rmtree(hooked.prof_dir)  # a gigabyte if it is the long run
    assert spans + dropped == THREADS * calls, account
    assert "without an end" not in account
    assert "beginning" not in account


def totals(program: Program) -> tuple[int, int, str]:
    """Spans and dropped events, as `msprof-rs parse` counts them: Python takes hours for a large capture."""
    command = Path(sysconfig.get_path("scripts"), "msprof-rs")
    outcome = subprocess.run(
        [command, "parse", "--input-path", program.prof_dir, "--format", "csv"],
        cwd=program.folder,
        capture_output=True,
        text=True,
    )
    account = outcome.stdout
    spans = re.search(r"([\d,]+) spans", account)
    dropped = re.search(r"^Dropped +([\d,]+) event", account, re.MULTILINE)
    assert outcome.returncode == (3 if dropped else 0), account + outcome.stderr
    assert spans, account
    return int(spans[1].replace(",", "")), int(dropped[1].replace(",", "")) if dropped else 0, account
