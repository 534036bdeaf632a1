"""A model that only takes time: a fixed part per step and a part per token."""

from __future__ import annotations

import time
import zlib

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.outputs import ModelRunnerOutput

STEP_SECONDS = 0.002
TOKEN_SECONDS = 20e-6
VOCABULARY = 1024


class CachedRequestState:
    """What the worker remembers of a request between steps."""

    def __init__(self, req_id: str, num_prompt_tokens: int, num_computed_tokens: int) -> None:
        self.req_id = req_id
        self.num_prompt_tokens = num_prompt_tokens
        self.num_computed_tokens = num_computed_tokens


class InputBatch:
    """The requests of the step that runs."""

    def __init__(self, req_ids: list[str]) -> None:
        self.req_ids = req_ids

    @property
    def num_reqs(self) -> int:
        """How many there are."""
        return len(self.req_ids)


class GPUModelRunner:
    """Executes batches in two steps, the model and the sampler, as vLLM does."""

    def __init__(self) -> None:
        self.requests: dict[str, CachedRequestState] = {}
        self.input_batch = InputBatch([])
        self.execute_model_state: SchedulerOutput | None = None

    def execute_model(self, scheduler_output: SchedulerOutput) -> ModelRunnerOutput | None:
        """Runs the model; None means that `sample_tokens` gives the tokens. An empty batch has none."""
        self._update_states(scheduler_output)
        if scheduler_output.total_num_scheduled_tokens == 0:
            return ModelRunnerOutput(req_ids=[], sampled_token_ids=[])
        num_tokens = self._prepare_inputs(scheduler_output)
        self._model_forward(num_tokens)
        self.execute_model_state = scheduler_output
        return None

    def sample_tokens(self, grammar_output: None) -> ModelRunnerOutput:
        """One token for each request whose known tokens are all computed; it depends on the request only."""
        assert self.execute_model_state is not None
        scheduled = self.execute_model_state.num_scheduled_tokens
        self.execute_model_state = None
        sampled: list[list[int]] = []
        for req_id, num_tokens in scheduled.items():
            state = self.requests[req_id]
            state.num_computed_tokens += num_tokens
            complete = state.num_computed_tokens >= state.num_prompt_tokens
            seed = f"{req_id.rsplit('-', 1)[0]}:{state.num_computed_tokens}".encode()
            sampled.append([zlib.crc32(seed) % VOCABULARY] if complete else [])
        return ModelRunnerOutput(req_ids=list(scheduled), sampled_token_ids=sampled)

    def _update_states(self, scheduler_output: SchedulerOutput) -> None:
        """Forgets finished requests and learns new ones."""
        for req_id in scheduler_output.finished_req_ids:
            self.requests.pop(req_id, None)
        for new in scheduler_output.scheduled_new_reqs:
            self.requests[new.req_id] = CachedRequestState(
                new.req_id, len(new.prompt_token_ids), new.num_computed_tokens
            )
        self.input_batch = InputBatch(list(scheduler_output.num_scheduled_tokens))

    def _prepare_inputs(self, scheduler_output: SchedulerOutput) -> int:
        """The number of tokens to compute."""
        return sum(scheduler_output.num_scheduled_tokens.values())

    def _model_forward(self, num_tokens: int) -> None:
        """The time of the model."""
        time.sleep(STEP_SECONDS + num_tokens * TOKEN_SECONDS)
