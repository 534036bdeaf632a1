"""Continuous batching: a step takes a token of each running request, then chunks of prompts, to a budget."""

from __future__ import annotations

from collections import deque

from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.sched.output import CachedRequestData, NewRequestData, SchedulerOutput
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

MAX_NUM_SEQS = 16
MAX_NUM_BATCHED_TOKENS = 256
MAX_MODEL_LEN = 512
BLOCK_SIZE = 16


class Scheduler:
    """First come, first served. The cache holds `MAX_NUM_SEQS` requests of full length, so no preemption."""

    def __init__(self) -> None:
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.requests: dict[str, Request] = {}
        self.finished_req_ids: set[str] = set()
        self.kv_cache_manager = KVCacheManager(MAX_NUM_SEQS * MAX_MODEL_LEN // BLOCK_SIZE + 1, BLOCK_SIZE)

    def add_request(self, request: Request) -> None:
        """Puts a request at the end of the queue."""
        self.requests[request.request_id] = request
        self.waiting.append(request)

    def has_requests(self) -> bool:
        """Whether a step has something to do, if only to tell the workers who has ended."""
        return bool(self.requests or self.finished_req_ids)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """Chooses the next batch and counts its tokens as computed."""
        budget = MAX_NUM_BATCHED_TOKENS
        num_scheduled_tokens: dict[str, int] = {}
        new_reqs: list[NewRequestData] = []
        cached_reqs = CachedRequestData()

        for request in self.running:
            num_new = min(request.num_tokens - request.num_computed_tokens, budget)
            if num_new == 0:
                break
            blocks = self.kv_cache_manager.allocate_slots(request, num_new)
            if blocks is None:
                break
            cached_reqs.add(request, blocks.get_block_ids())
            num_scheduled_tokens[request.request_id] = num_new
            budget -= num_new

        while self.waiting and budget and len(self.running) < MAX_NUM_SEQS and not throttle_prefills:
            request = self.waiting[0]
            hits, num_cached, _ = self.kv_cache_manager.get_computed_blocks(request)
            num_new = min(request.num_tokens - num_cached, budget)
            request.num_computed_tokens = num_cached
            blocks = self.kv_cache_manager.allocate_slots(request, num_new, hits)
            if blocks is None:
                break
            self.waiting.popleft()
            self.running.append(request)
            request.status = RequestStatus.RUNNING
            request.num_cached_tokens = num_cached
            new_reqs.append(NewRequestData.from_request(request, blocks.get_block_ids()))
            num_scheduled_tokens[request.request_id] = num_new
            budget -= num_new

        for request_id, num_new in num_scheduled_tokens.items():
            self.requests[request_id].num_computed_tokens += num_new
        finished, self.finished_req_ids = self.finished_req_ids, set()
        return SchedulerOutput(
            scheduled_new_reqs=new_reqs,
            scheduled_cached_reqs=cached_reqs,
            num_scheduled_tokens=num_scheduled_tokens,
            total_num_scheduled_tokens=sum(num_scheduled_tokens.values()),
            finished_req_ids=finished,
        )

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        """Appends the sampled tokens, ends the requests that have enough; gives the outputs of client 0."""
        outputs: list[EngineCoreOutput] = []
        sampled = model_runner_output.sampled_token_ids
        for request_id, token_ids in zip(model_runner_output.req_ids, sampled, strict=True):
            if not token_ids:
                continue
            request = self.requests[request_id]
            request.output_token_ids += token_ids
            finished = request.num_output_tokens >= request.max_tokens
            reason = "length" if finished else None
            outputs.append(EngineCoreOutput(request_id, token_ids, reason, request.num_cached_tokens))
            if finished:
                self._free_request(request)
        return {0: EngineCoreOutputs(outputs)} if outputs else {}

    def _free_request(self, request: Request) -> None:
        request.status = RequestStatus.FINISHED_LENGTH_CAPPED
        self.kv_cache_manager.free(request)
        self.running.remove(request)
        self.finished_req_ids.add(request.request_id)
        del self.requests[request.request_id]
