"""Every entry of the built-in pack that is for this version really fires, under traffic of all kinds."""

from __future__ import annotations

import json
import os
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import traffic
from environment import REPOSITORY, Environment
from server import CONCURRENCY, Server
from traffic import TEMPLATE

from capture import Capture, Event
from program import Program, wait_until

PACK = REPOSITORY / "python" / "msprof_rs" / "packs" / "vllm.yaml"
PROBE = "Probe"
"""The domain of the probes: a timer on each symbol of the pack, by the symbol's own name."""
TOKENS = 640
"""Of the KV cache: much too few for sixteen requests, so some are preempted."""


def options(vllm_version: str) -> list[str]:
    """A small cache that is found again, and prompts in chunks.

    Since 0.12 the CPU's kernels take blocks of 32 only; those before it crash with them.
    """
    block = 16 if vllm_version.startswith(("0.9.", "0.10.", "0.11.")) else 32
    chosen = ["--block-size", str(block), "--num-gpu-blocks-override", str(TOKENS // block)]
    return [*chosen, "--enable-prefix-caching", "--max-num-batched-tokens", "64", "--enable-chunked-prefill"]


NOT_HERE = {
    "*EngineCore.step_with_batch_queue": "steps overlap with several GPUs or asynchronous scheduling",
    "uvicorn.protocols.http.h11_impl:*": "uvicorn takes httptools, which is installed",
    "vllm.multimodal.*": "the model has no images",
    "vllm.model_executor.models.*": "the model has no images",
    "*._execute_mm_encoder": "the model has no images",
    "vllm.lora.*": "there is no adapter",
    "*KVCacheManager.reset_prefix_cache": "asked for by training frameworks alone",
    "*.execute_dummy_batch": "data parallelism needs several engines",
    "vllm.v1.engine.core:DPEngineCoreProc.*": "data parallelism needs several engines",
    "vllm.distributed.kv_transfer.*": "there is no second server to send blocks to",
    "*Scheduler._update_waiting_for_remote_kv": "there is no second server to send blocks to",
    "*Scheduler._update_from_kv_xfer_finished": "there is no second server to send blocks to",
    "vllm.v1.executor.abstract:*": "the executor in use overrides it",
    "vllm.v1.executor.uniproc_executor:*": "the executor in use is the other one",
    "vllm.v1.executor.ray_*": "the executor in use is the other one",
    "*.propose_draft_token_ids": "no speculative decoding",
    "vllm.v1.sample.rejection_sampler:*": "no speculative decoding",
    "vllm.v1.worker.gpu.*": "vLLM's second model runner needs a GPU",
    "vllm.v1.worker.gpu_worker:*": "the CPU's worker has methods of its own",
    "*.capture_model": "graphs are a GPU's",
    "*.profile_run": "the CPU's memory is not profiled",
    "vllm.compilation.*": "the server runs with --enforce-eager",
    "*DefaultModelLoader.load_weights": "the weights are dummies",
    "*AsyncGPUModelRunnerOutput.get_output": "asynchronous output needs a GPU",
}
"""Why an entry can't fire on a CPU, with this model."""


NOT_IN_ONE_PROCESS = [
    "vllm.v1.executor.multiproc_executor:*",
    "vllm.distributed.device_communicators.shm_broadcast:*",
]
"""The worker of older versions is in the engine's process."""


class Run:
    """A server whose pack is probed, with collection on from its start."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        self.environment = environment
        self.program = Program(folder / "profiler")
        self.entries = [row["symbol"] for row in self.check() if row["verdict"] == "fine"]
        probes = [
            f"- {{symbol: {json.dumps(symbol)}, domain: {PROBE}, name: {json.dumps(symbol)}}}\n"
            for symbol in dict.fromkeys(self.entries)
        ]
        self.program.symbols.write_text(PACK.read_text() + "".join(probes))
        self.program.configure(profiler_level="VERBOSE")
        template = folder / "template.jinja"
        template.write_text(TEMPLATE)
        settings = {
            "SERVICE_PROF_CONFIG_PATH": str(self.program.config),
            "PROFILING_SYMBOLS_PATH": str(self.program.symbols),
        }
        chosen = [*options(environment.vllm_version), "--chat-template", str(template)]
        with Server(environment, folder / "server", settings, chosen) as server:
            self.log = server.log
            traffic.chat(server, "chat", max_tokens=8)
            self.pieces = traffic.chat_in_pieces(server, "pieces", 8)
            traffic.crowd(server, "crowd-", CONCURRENCY, prompt=150, tokens=60)
            traffic.twice(server, "twice-")
            traffic.aborts(server, "abort-", CONCURRENCY)
            traffic.structured(server, "structured")
            self.program.switch(0)
            (session,) = self.program.sessions()
            wait_until(
                lambda: all(path.suffix == ".pftrace" for path in session.iterdir()), "the end of collection"
            )
        self.capture = Capture(self.program.prof_dir)
        self.is_uniproc = environment.vllm_version == "0.11.0"

    def check(self) -> list[dict[str, str]]:
        """What `msprof-rs check` says of the pack here."""
        command = [self.environment.program("msprof-rs"), "check", "--symbols", str(PACK), "--json"]
        # The tests' own path has stubs of vLLM.
        settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, env=settings, capture_output=True, text=True)
        rows: list[dict[str, str]] = json.loads(done.stdout)["entries"]
        return rows

    def of(self, name: str, rid: str) -> list[Event]:
        """The events of a name that are about a request, by the beginning of its id."""
        return [event for event in self.capture.named(name) if any(rid in text for text in ids(event))]


def ids(event: Event) -> list[str]:
    """The requests of an event, however it lists them."""
    rid = event.attributes.get("rid", [])
    entries = rid if isinstance(rid, list) else [rid]
    return [entry["rid"] if isinstance(entry, dict) else str(entry) for entry in entries]


@pytest.fixture(scope="module")
def run(vllm: Environment, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(vllm, tmp_path_factory.mktemp(f"pack-{vllm.python_version}"))


def test_every_entry_fires_or_can_not_on_this_machine(run: Run) -> None:
    fired = {span.name for span in run.capture.spans if span.domain == PROBE}
    silent = [symbol for symbol in dict.fromkeys(run.entries) if symbol not in fired]
    reasons = [*NOT_HERE, *(NOT_IN_ONE_PROCESS if run.is_uniproc else ())]
    unexplained = [symbol for symbol in silent if not any(fnmatchcase(symbol, known) for known in reasons)]
    assert not unexplained
    assert len(fired) > 30


def test_no_datum_is_missing_and_no_handler_has_failed(run: Run) -> None:
    lines = [line for line in run.log.read_text().splitlines() if "[msprof_rs]" in line]
    assert not [line for line in lines if "could not be read" in line or "handler" in line]


def test_processes_tell_who_they_are(run: Run) -> None:
    names = ["API server", "EngineCore"] if run.is_uniproc else ["API server", "EngineCore", "Worker"]
    assert sorted(run.capture.process_names.values()) == names


def test_the_engine_alone_knows_the_times_of_a_request(run: Run) -> None:
    for number in range(CONCURRENCY):
        rid = f"crowd-{number}-"
        (begin,), (first,), (end,) = run.of("coreReq", rid), run.of("firstToken", rid), run.of("coreRes", rid)
        (arrival,), (result,) = run.of("httpReq", rid), run.of("httpRes", rid)
        # The engine is told when the front end got the request.
        assert abs(begin.attributes["arrival"] * 1e9 - arrival.start) < 1e9
        assert arrival.start < begin.start < first.start < end.start < result.start
        counts = ("recvTokenSize=", "replyTokenSize=")
        for event in (end, result):
            assert [event.attributes[key] for key in counts] == [150, 60]
        assert end.attributes["reason"] == "length"


def test_long_prompts_are_computed_in_chunks(run: Run) -> None:
    rid = "crowd-0-"
    steps = [
        entry
        for step in run.of("batchFrameworkProcessing", rid)
        for entry in step.attributes["rid"]
        if rid in entry["rid"]
    ]
    assert [entry["iter"] for entry in steps] == list(range(len(steps)))
    prefill = [entry for entry in steps if entry["type"] == 0]
    assert len(prefill) >= 3, "150 tokens, 64 at a time"
    assert all(entry["num_prompt_tokens"] == 150 for entry in steps)


def test_preemptions_show_and_every_step_s_model_run_has_its_batch(run: Run) -> None:
    preempted = [event for event in run.capture.named("Enqueue") if is_preemption(event)]
    assert preempted
    assert run.capture.named("AllocationFailed")
    steps = [step for step in run.capture.named("batchFrameworkProcessing") if ids(step)]
    runs = run.capture.named("modelExec")
    assert [ids(step) for step in steps] == [ids(run) for run in sorted(runs, key=lambda run: run.start)]
    ends = {tuple(ids(event)): event.start for event in run.capture.named("updateFromOutput")}
    assert ends
    assert all(run.duration is not None and run.duration > 0 for run in runs)


def is_preemption(event: Event) -> bool:
    """Requests enter the queue WAITING one by one; what comes back to it is listed."""
    return event.attributes["scope#QueueName"] == "WAITING" and isinstance(event.attributes["rid"], list)


def test_the_prefix_cache_has_the_second_of_two_equal_prompts(run: Run) -> None:
    rates = [run.of("CacheHitRate", f"twice-{number}")[0].attributes["hitCache"] for number in range(2)]
    assert rates[0] == 0
    assert rates[1] > 0.5


def test_an_abort_ends_the_request_in_the_engine(run: Run) -> None:
    ends = [run.of("coreRes", f"abort-{number}-") for number in range(CONCURRENCY)]
    assert all(len(end) == 1 for end in ends)
    # A fast engine may be done with one before its client is seen to have gone.
    aborted = [end for (end,) in ends if end.attributes["reason"] == "aborted"]
    assert aborted
    assert all(end.attributes["replyTokenSize="] < 200 for end in aborted)
    assert run.capture.named("abort")


def test_a_stream_s_first_piece_is_timed(run: Run) -> None:
    (generation,) = run.of("generate", "pieces")
    assert generation.attributes["items"] > 1
    assert 0 < generation.attributes["first_item_ns"] < (generation.duration or 0)
