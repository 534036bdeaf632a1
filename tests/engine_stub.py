"""A tiny engine in the shapes of three generations of vLLM, under vLLM's real module paths.

It schedules in chunks, preempts when blocks run out, finds prompts in its prefix cache, drafts tokens, and
tells what it did, so that a test can compare.
"""

from __future__ import annotations

from pathlib import Path

GENERATIONS = ["0.9.1", "0.11.0", "0.32.0"]

KV_CACHE_MANAGER = """
class BlockPool:
    def __init__(self, blocks): self.num_gpu_blocks, self.used = blocks, {}
    def get_num_free_blocks(self): return self.num_gpu_blocks - sum(self.used.values())

class KVCacheManager:
    def __init__(self, blocks):
        self.block_pool = BlockPool(blocks)
        self.cached = set()

    def get_computed_blocks(self, request):
        hit = 4 if request.prompt_token_ids[0] in self.cached else 0
        self.cached.add(request.prompt_token_ids[0])
        return object(), hit

    def allocate_slots(self, request, num_new_tokens, *more, **others):
        need = -(-(request.num_computed_tokens + num_new_tokens) // 4)
        more = need - self.block_pool.used.get(request.request_id, 0)
        if more > self.block_pool.get_num_free_blocks():
            return None
        self.block_pool.used[request.request_id] = need
        return object()

    def free(self, request):
        self.block_pool.used.pop(request.request_id, None)
"""

SCHEDULER = """
import enum
from types import SimpleNamespace as Box
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.version import GENERATION

class RequestStatus(enum.IntEnum):
    FINISHED_ABORTED = 3

class Request:
    def __init__(self, request_id, prompt, max_tokens, arrival_time=1.0):
        self.request_id, self.prompt_token_ids, self.max_tokens = request_id, prompt, max_tokens
        self.num_prompt_tokens, self.num_computed_tokens, self.replied = len(prompt), 0, 0
        self.arrival_time, self.steps, self.has_ended = arrival_time, 0, False
    @property
    def num_tokens(self): return self.num_prompt_tokens + self.replied
    @property
    def num_output_tokens(self): return self.replied
    def is_finished(self): return self.has_ended

class Scheduler:
    def __init__(self, blocks=1000, budget=1000, drafts=0):
        self.waiting, self.running, self.requests, self.finished_req_ids = [], [], {}, set()
        self.kv_cache_manager = KVCacheManager(blocks)
        self.budget, self.drafts, self.truth, self.preempted = budget, drafts, [], []

    def add_request(self, request):
        self.requests[request.request_id] = request
        self.waiting.append(request)

    def _preempt_request(self, request, timestamp=0.0):
        self.kv_cache_manager.free(request)
        request.num_computed_tokens = 0
        request.was_preempted = True
        self.waiting.insert(0, request)
        self.preempted.append(request.request_id)

    def schedule(self):
        new, cached, tokens, budget = [], [], {}, self.budget
        for request in list(self.running):
            count = min(request.num_tokens - request.num_computed_tokens, budget)
            while request in self.running and self.kv_cache_manager.allocate_slots(request, count) is None:
                victim = self.running.pop()
                budget += tokens.pop(victim.request_id, 0)
                cached = [it for it in cached if it is not victim]
                self._preempt_request(victim)
            if request in self.running and count:
                cached.append(request)
                tokens[request.request_id] = count
                budget -= count
        while self.waiting and budget and not (self.preempted and tokens and not new and self.tight()):
            request = self.waiting[0]
            if not request.num_computed_tokens:
                request.num_computed_tokens = self.kv_cache_manager.get_computed_blocks(request)[1]
            count = min(request.num_tokens - request.num_computed_tokens, budget)
            if self.kv_cache_manager.allocate_slots(request, count) is None:
                break
            self.waiting.pop(0)
            self.running.append(request)
            # The newest generation tells its workers of a preempted request as of a new one.
            again = getattr(request, "was_preempted", False) and GENERATION < (0, 32)
            (cached if again else new).append(request)
            tokens[request.request_id] = count
            budget -= count
        finished, self.finished_req_ids = self.finished_req_ids, set()
        output = Box(
            scheduled_new_reqs=[Box(req_id=r.request_id, prompt_token_ids=r.prompt_token_ids,
                                    num_computed_tokens=r.num_computed_tokens) for r in new],
            scheduled_cached_reqs=self.cached(cached),
            num_scheduled_tokens=tokens,
            total_num_scheduled_tokens=sum(tokens.values()),
            finished_req_ids=finished,
            scheduled_spec_decode_tokens={},
        )
        entries = []
        for rid, count in tokens.items():
            request = self.requests[rid]
            is_prefill = request.num_computed_tokens < request.num_prompt_tokens
            entries.append([rid, request.steps, int(not is_prefill), count, request.num_prompt_tokens,
                            request.num_computed_tokens])
            request.steps += 1
            request.num_computed_tokens += count
            if self.drafts and not is_prefill:
                output.scheduled_spec_decode_tokens[rid] = [1] * self.drafts
        if entries:
            self.truth.append(entries)
        return output

    def tight(self): return self.kv_cache_manager.block_pool.get_num_free_blocks() < 8

    def cached(self, requests):
        if GENERATION < (0, 10):
            return [Box(req_id=r.request_id, num_computed_tokens=r.num_computed_tokens) for r in requests]
        return Box(req_ids=[r.request_id for r in requests],
                   num_computed_tokens=[r.num_computed_tokens for r in requests])

    def update_from_output(self, scheduler_output, model_runner_output):
        outputs = []
        for rid, tokens in model_runner_output.items():
            request = self.requests.get(rid)
            if request is None or request.num_computed_tokens < request.num_tokens:
                continue
            request.replied += len(tokens)
            reason = "length" if request.replied >= request.max_tokens else None
            outputs.append(Box(request_id=rid, new_token_ids=tokens, finish_reason=reason))
            if reason:
                self._free_request(request)
        return {0: Box(outputs=outputs)}

    def finish_requests(self, request_ids, finished_status):
        every = self.requests if request_ids is None else request_ids
        for rid in [every] if isinstance(every, str) else list(every):
            if rid in self.requests and not self.requests[rid].has_ended:
                self._free_request(self.requests[rid])

    def _free_request(self, request):
        self.kv_cache_manager.free(request)
        for queue in (self.running, self.waiting):
            if request in queue:
                queue.remove(request)
        self.finished_req_ids.add(request.request_id)
        del self.requests[request.request_id]
"""

EXECUTOR = """
import threading, time
from concurrent.futures import Future
from vllm.version import GENERATION

class MultiprocExecutor:
    def __init__(self): self.last = None

    def execute_model(self, scheduler_output, non_block=False):
        drafts = scheduler_output.scheduled_spec_decode_tokens
        result = {rid: [7] * (1 + (rid in drafts)) for rid in scheduler_output.num_scheduled_tokens}
        if GENERATION < (0, 11, 1):
            return result
        self.last, future = result, Future()
        future.set_result(None)
        return future

    def sample_tokens(self, grammar_output, non_block=False):
        result = self.last
        if not non_block:
            return result
        future = Future()
        def work():
            time.sleep(0.002)
            future.set_result(result)
        threading.Thread(target=work).start()
        return future
"""

CORE = """
from vllm.v1.core.sched.scheduler import RequestStatus, Scheduler
from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.version import GENERATION

class EngineCore:
    def __init__(self, **settings):
        self.scheduler, self.model_executor = Scheduler(**settings), MultiprocExecutor()
        self.queue = []

    def add_request(self, request, request_wave=0):
        self.scheduler.add_request(request)

    def abort_requests(self, request_ids):
        self.scheduler.finish_requests(request_ids, RequestStatus.FINISHED_ABORTED)

    def step(self):
        output = self.scheduler.schedule()
        if not output.num_scheduled_tokens:
            return {}
        result = self.model_executor.execute_model(output)
        if GENERATION >= (0, 11, 1):
            result = result.result() or self.model_executor.sample_tokens(None)
        return self.scheduler.update_from_output(output, result)

    def step_with_batch_queue(self):
        output = self.scheduler.schedule()
        if output.num_scheduled_tokens:
            self.model_executor.execute_model(output, non_block=True)
            self.queue.append((self.model_executor.sample_tokens(None, non_block=True), output))
            if len(self.queue) < 2:
                return {}
        if not self.queue:
            return {}
        future, output = self.queue.pop(0)
        return self.scheduler.update_from_output(output, future.result())
"""

OUTPUT_PROCESSOR = """
class RequestState:
    def __init__(self, external_req_id, prompt):
        self.external_req_id, self.prompt_len, self.tokens = external_req_id, len(prompt), 0
        self.detokenizer = self
    def num_output_tokens(self): return self.tokens

class OutputProcessor:
    def __init__(self): self.request_states = {}

    def process_outputs(self, engine_core_outputs):
        for output in engine_core_outputs:
            state = self.request_states.get(output.request_id)
            if state is None:
                continue  # its client has hung up
            state.tokens += len(output.new_token_ids)
            if output.finish_reason:
                del self.request_states[output.request_id]
"""

ASYNC_LLM = """
import itertools
from types import SimpleNamespace as Box
from vllm.v1.core.sched.scheduler import Request
from vllm.v1.engine.output_processor import OutputProcessor, RequestState

class AsyncLLM:
    # The server's side; the engine lies in the same process here.
    def __init__(self, core):
        self.core, self.output_processor, self.numbers = core, OutputProcessor(), itertools.count(1)

    async def add_request(self, request_id, prompt, params):
        engine_id = f"{request_id}-{next(self.numbers):08x}"
        ids = [engine_id] if params.n == 1 else [f"{index}_{engine_id}" for index in range(params.n)]
        for rid in ids:
            self.output_processor.request_states[rid] = RequestState(request_id, prompt)
            self.core.add_request(Request(rid, prompt, params.max_tokens))
        return Box(request_id=engine_id)

    async def abort(self, request_id, internal=True):
        self.output_processor.request_states.pop(request_id, None)
        self.core.abort_requests([request_id])

    def step(self):
        for outputs in self.core.step().values():
            self.output_processor.process_outputs(outputs.outputs)
"""


def write(folder: Path, version: str) -> Path:
    """Writes the package `vllm` of that generation; gives the folder for `PYTHONPATH`."""
    numbers = tuple(int(part) for part in version.split("."))
    modules = {
        "version": f"__version__ = {version!r}\nGENERATION = {numbers}\n",
        "v1.core.kv_cache_manager": KV_CACHE_MANAGER,
        "v1.core.sched.scheduler": SCHEDULER,
        "v1.executor.multiproc_executor": EXECUTOR,
        "v1.engine.core": CORE,
        "v1.engine.output_processor": OUTPUT_PROCESSOR,
        "v1.engine.async_llm": ASYNC_LLM,
    }
    for name, code in modules.items():
        file = folder / "vllm" / (name.replace(".", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        for package in file.relative_to(folder).parents:
            (folder / package / "__init__.py").touch()
        file.write_text(code)
    return folder
