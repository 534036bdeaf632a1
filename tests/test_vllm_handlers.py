"""The built-in handlers on engines in the shapes of three generations of vLLM."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

import engine_stub
from capture import Capture, Event
from program import Program

KEYS = ("rid", "iter", "type", "num_scheduled_tokens", "num_prompt_tokens", "num_computed_tokens")

START = """
import json, msprof_rs
from vllm.v1.core.sched.scheduler import Request, RequestStatus
from vllm.v1.engine.core import EngineCore

def serve(engine, step=None):
    while engine.scheduler.requests or engine.queue:
        (step or engine.step)()
    print(json.dumps([engine.scheduler.truth, engine.scheduler.preempted]))
"""


def run(program: Program, version: str, code: str, **settings: Any) -> tuple[list[Any], list[str], Capture]:
    """The engine's own account of its steps and preemptions, and what was captured."""
    folder = engine_stub.write(program.folder / "package", version)
    del program.environment["PROFILING_SYMBOLS_PATH"]  # the built-in pack
    program.configure(**settings)
    out, err = program.run(START + code, PYTHONPATH=str(folder))
    assert "ERROR" not in err
    assert "could not be read" not in err
    assert "handler failed" not in err
    truth, preempted = json.loads(out.splitlines()[-1])
    return truth, preempted, program.capture()


def steps(capture: Capture) -> list[list[list[Any]]]:
    spans = capture.named("batchFrameworkProcessing")
    return [
        [[entry[key] for key in KEYS] for entry in span.attributes["rid"]]
        for span in spans
        if "rid" in span.attributes
    ]


def ids(event: Event) -> list[str]:
    return [entry["rid"] if isinstance(entry, dict) else entry for entry in event.attributes["rid"]]


@pytest.mark.parametrize("version", engine_stub.GENERATIONS)
def test_every_step_has_its_requests_with_iteration_phase_and_tokens(program: Program, version: str) -> None:
    code = """
engine = EngineCore(budget=6)
for n in range(4):
    engine.add_request(Request(f"r{n}", [n % 2] * (5 + 3 * n), max_tokens=3 + n))
serve(engine)
"""
    truth, _, capture = run(program, version, code)
    assert steps(capture) == truth
    assert any(entry[2] == 0 and entry[1] > 0 for step in truth for entry in step), "no prompt was cut"
    runs = capture.named("modelExec")
    assert [ids(span) for span in runs] == [[entry[0] for entry in step] for step in truth]
    assert [span.attributes["batch_size"] for span in runs] == [sum(e[3] for e in step) for step in truth]
    kinds = {"Prefill": {0}, "Decode": {1}, "Prefill,Decode": {0, 1}}
    for span, step in zip(runs, truth, strict=True):
        assert kinds[span.attributes["batch_type"]] == {entry[2] for entry in step}
    hits = {event.attributes["rid"]: event.attributes["hitCache"] for event in capture.named("CacheHitRate")}
    assert hits == {"r0": 0, "r1": 0, "r2": 4 / 11, "r3": 4 / 14}


@pytest.mark.parametrize("version", engine_stub.GENERATIONS)
def test_the_life_of_a_request_is_known_from_the_engine_alone(program: Program, version: str) -> None:
    code = """
engine = EngineCore()
for n in range(3):
    engine.add_request(Request(f"r{n}", [n] * 5, max_tokens=3 + n, arrival_time=7.5))
engine.step(); engine.step()
engine.abort_requests(["r2", "unknown"])
serve(engine)
"""
    _, _, capture = run(program, version, code)
    assert [(event.attributes["rid"], event.attributes["arrival"]) for event in capture.named("coreReq")] == [
        (f"r{n}", 7.5) for n in range(3)
    ]
    (first,) = capture.named("firstToken")
    assert ids(first) == ["r0", "r1", "r2"]
    ends = {event.attributes["rid"]: event.attributes for event in capture.named("coreRes")}
    told = {rid: (end["recvTokenSize="], end["replyTokenSize="], end["reason"]) for rid, end in ends.items()}
    assert told == {"r0": (5, 3, "length"), "r1": (5, 4, "length"), "r2": (5, 2, "aborted")}


@pytest.mark.parametrize("version", engine_stub.GENERATIONS)
def test_an_abort_tells_the_tokens_of_what_never_ran_or_ran_before_collection(
    program: Program, version: str
) -> None:
    code = """
engine = EngineCore(budget=5)
for n in range(3):
    engine.add_request(Request(f"r{n}", [n] * 5, max_tokens=9))
engine.step(); engine.step()
msprof_rs.start()
engine.scheduler.requests["r1"].has_ended = True  # its blocks are kept for another engine
engine.abort_requests(["r0", "r1", "r2"])
msprof_rs.stop()
print("[[], []]")
"""
    _, _, capture = run(program, version, code, enable=0)
    ends = [event.attributes for event in capture.named("coreRes")]
    assert [(end["rid"], end["recvTokenSize="], end["replyTokenSize="]) for end in ends] == [
        ("r0", 5, 2),
        ("r2", 5, 0),
    ]


@pytest.mark.parametrize("version", engine_stub.GENERATIONS)
def test_who_ends_leaves_its_queue(program: Program, version: str) -> None:
    code = """
engine = EngineCore(budget=10)
for n in range(4):
    engine.add_request(Request(f"r{n}", [n] * 5, max_tokens=2 + n))
engine.step()
engine.abort_requests(["r1", "r3"])
serve(engine)
"""
    _, _, capture = run(program, version, code)
    moves = sorted([*capture.named("Enqueue"), *capture.named("Dequeue")], key=lambda event: event.start)
    inside: dict[str, set[str]] = {"RUNNING": set(), "WAITING": set()}
    for event in moves:
        queue, rid = inside[event.attributes["scope#QueueName"]], event.attributes["rid"]
        moved = {rid} if isinstance(rid, str) else set(rid)
        assert moved.isdisjoint(queue) == (event.name == "Enqueue")
        queue ^= moved
        assert event.attributes["QueueSize="] == len(queue)
    assert inside == {"RUNNING": set(), "WAITING": set()}
    left = [
        (event.attributes["scope#QueueName"], event.attributes["rid"]) for event in capture.named("Dequeue")
    ]
    assert left.index(("RUNNING", ["r1"])) + 1 == left.index(("WAITING", ["r3"]))


def test_all_requests_end_at_once(program: Program) -> None:
    code = """
engine = EngineCore()
for n in range(3):
    engine.add_request(Request(f"r{n}", [n] * 5, max_tokens=9))
engine.step()
engine.scheduler.finish_requests(None, RequestStatus.FINISHED_ABORTED)
print("[[], []]")
"""
    _, _, capture = run(program, "0.32.0", code)
    assert [event.attributes["rid"] for event in capture.named("coreRes")] == ["r0", "r1", "r2"]


@pytest.mark.parametrize("version", engine_stub.GENERATIONS)
def test_a_preempted_request_goes_on_counting(program: Program, version: str) -> None:
    code = """
engine = EngineCore(blocks=14)
for n in range(3):
    engine.add_request(Request(f"r{n}", [n] * 12, max_tokens=16))
serve(engine)
"""
    truth, preempted, capture = run(program, version, code)
    assert preempted
    assert steps(capture) == truth
    moved = [
        (event.name, rid)
        for event in [*capture.named("Enqueue"), *capture.named("Dequeue")]
        if event.attributes["scope#QueueName"] == "RUNNING"
        for rid in ids(event)
    ]
    for n in range(3):
        times = preempted.count(f"r{n}")
        assert moved.count(("Enqueue", f"r{n}")) == 1 + times
        assert moved.count(("Dequeue", f"r{n}")) == 1 + times
    assert capture.named("AllocationFailed")
    named = [event.attributes["rid"] for event in capture.named("Preempt")]
    assert named == (preempted if version == "0.32.0" else [])
    ends = {
        event.attributes["rid"]: event.attributes["replyTokenSize="] for event in capture.named("coreRes")
    }
    assert ends == {f"r{n}": 16 for n in range(3)}


def test_steps_that_overlap_are_told_apart_by_their_batch(program: Program) -> None:
    code = """
engine = EngineCore()
for n in range(2):
    engine.add_request(Request(f"r{n}", [n] * (4 + n), max_tokens=6))
engine.step_with_batch_queue()
engine.add_request(Request("late", [9] * 4, max_tokens=4))
serve(engine, engine.step_with_batch_queue)
"""
    truth, _, capture = run(program, "0.32.0", code)
    runs = sorted(capture.named("modelExec"), key=lambda span: span.start)
    assert [ids(span) for span in runs] == [[entry[0] for entry in step] for step in truth]
    assert all(span.duration is not None for span in runs)
    assert any(later.start < span.end for span, later in itertools.pairwise(runs))
    # The tokens come two milliseconds after the call of the later steps has returned; the first call of
    # `sample_tokens` tells that there is one.
    assert all(span.duration and span.duration > 1_500_000 for span in runs[1:])


def test_accepted_drafts_are_counted(program: Program) -> None:
    code = """
engine = EngineCore(drafts=1)
engine.add_request(Request("r0", [1] * 4, max_tokens=5))
serve(engine)
"""
    _, _, capture = run(program, "0.32.0", code)
    updates = [event.attributes for event in capture.named("updateFromOutput")]
    accepted = [it.get("spec_decode_accepted_by_req") for it in updates]
    assert accepted[0] is None
    assert set(map(str, accepted[1:])) == {"{'r0': 1}"}
    assert sum(it["new_tokens"] for it in updates) == 5


def test_collection_that_begins_in_the_middle_says_what_it_knows(program: Program) -> None:
    code = """
engine = EngineCore(budget=6)
for n in range(2):
    engine.add_request(Request(f"r{n}", [n] * 10, max_tokens=8))
for _ in range(3):
    engine.step()
before = len(engine.scheduler.truth)
msprof_rs.start()
engine.add_request(Request("new", [5] * 4, max_tokens=3))
while engine.scheduler.requests:
    engine.step()
del engine.scheduler.truth[:before]
print(json.dumps([engine.scheduler.truth, []]))
"""
    truth, _, capture = run(program, "0.32.0", code, enable=0)
    iterations: dict[str, int] = {}
    for step, expected in zip(steps(capture), truth, strict=True):
        for entry, true in zip(step, expected, strict=True):
            # All but the iteration, which is counted from here.
            assert [entry[0], *entry[2:]] == [true[0], *true[2:]]
            assert entry[1] == iterations.get(entry[0], 0)
            iterations[entry[0]] = entry[1] + 1
    ends = {
        event.attributes["rid"]: event.attributes.get("replyTokenSize=") for event in capture.named("coreRes")
    }
    assert ends == {"r0": None, "r1": None, "new": 3}


def test_engines_in_several_threads_are_kept_apart(program: Program) -> None:
    code = """
import sys, threading
sys.setswitchinterval(1e-5)
engines = [EngineCore(budget=40) for _ in range(4)]
def work(number):
    for n in range(12):
        engines[number].add_request(Request(f"e{number}-{n}", [n] * (5 + n), max_tokens=20))
    while engines[number].scheduler.requests:
        engines[number].step()
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([[engine.scheduler.truth for engine in engines], []]))
"""
    truth, _, capture = run(program, "0.32.0", code)
    known = steps(capture)
    for number in range(4):
        assert [step for step in known if step[0][0].startswith(f"e{number}-")] == truth[number]
    ends = {
        event.attributes["rid"]: event.attributes["replyTokenSize="] for event in capture.named("coreRes")
    }
    assert ends == {f"e{number}-{n}": 20 for number in range(4) for n in range(12)}


def test_an_attribute_that_is_gone_costs_its_datum_alone(program: Program) -> None:
    folder = engine_stub.write(program.folder / "package", "0.32.0")
    scheduler = folder / "vllm/v1/core/sched/scheduler.py"
    scheduler.write_text(
        scheduler.read_text()
        .replace("kv_cache_manager", "cache")
        .replace("v1.core.cache", "v1.core.kv_cache_manager")
    )
    del program.environment["PROFILING_SYMBOLS_PATH"]
    code = """
engine = EngineCore()
engine.scheduler.cache = engine.scheduler.cache
del Request.__init__.__defaults__
for n in range(3):
    request = Request(f"r{n}", [n] * 4, 9, 1.0)
    del request.arrival_time
    engine.add_request(request)
serve(engine)
"""
    _, err = program.run(START + code, PYTHONPATH=str(folder))
    assert err.count("Request.arrival_time could not be read") == 1
    capture = program.capture()
    assert len(capture.named("coreReq")) == 3
    assert len(capture.named("coreRes")) == 3
    assert not capture.named("KVCacheStatus")
