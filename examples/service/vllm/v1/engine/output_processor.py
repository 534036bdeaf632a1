"""Turns the engine's tokens into text and hands it to the coroutines that wait for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest


@dataclass
class RequestOutput:
    """What the client gets: the text so far."""

    request_id: str
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    text: str
    finished: bool


@dataclass
class RequestOutputCollector:
    """The outputs of one request on their way to its coroutine."""

    request_id: str
    queue: asyncio.Queue[RequestOutput] = field(default_factory=asyncio.Queue)


class IncrementalDetokenizer:
    """Text out of tokens, piece by piece."""

    def __init__(self) -> None:
        self.output_text = ""
        self._num_tokens = 0

    def update(self, new_token_ids: list[int]) -> None:
        """Appends tokens."""
        self.output_text += "".join(f" {token}" for token in new_token_ids)
        self._num_tokens += len(new_token_ids)

    def num_output_tokens(self) -> int:
        """Tokens so far."""
        return self._num_tokens


class RequestState:
    """One request as the API server knows it."""

    def __init__(self, request: EngineCoreRequest, queue: RequestOutputCollector) -> None:
        self.request_id = request.request_id
        self.external_req_id = request.external_req_id or request.request_id
        self.prompt_token_ids = request.prompt_token_ids
        self.prompt_len = len(request.prompt_token_ids)
        self.arrival_time = request.arrival_time
        self.queue = queue
        self.detokenizer = IncrementalDetokenizer()
        self.is_prefilling = True
        self.num_cached_tokens = 0


@dataclass
class OutputProcessorOutput:
    """What a caller without queues would get; here always empty lists."""

    request_outputs: list[RequestOutput]
    reqs_to_abort: list[str]


class OutputProcessor:
    """All requests in flight, and what to do with their tokens."""

    def __init__(self) -> None:
        self.request_states: dict[str, RequestState] = {}

    def add_request(self, request: EngineCoreRequest, queue: RequestOutputCollector) -> None:
        """Remembers a request until it is finished."""
        self.request_states[request.request_id] = RequestState(request, queue)

    def process_outputs(
        self, engine_core_outputs: list[EngineCoreOutput], engine_core_timestamp: float | None = None
    ) -> OutputProcessorOutput:
        """Detokenizes one batch of outputs; finished requests leave `request_states`."""
        for output in engine_core_outputs:
            state = self.request_states.get(output.request_id)
            if state is None:
                continue
            if state.is_prefilling:
                state.is_prefilling = False
                state.num_cached_tokens = output.num_cached_tokens
            state.detokenizer.update(output.new_token_ids)
            request_output = RequestOutput(
                request_id=state.external_req_id,
                prompt_tokens=state.prompt_len,
                output_tokens=state.detokenizer.num_output_tokens(),
                cached_tokens=state.num_cached_tokens,
                text=state.detokenizer.output_text,
                finished=output.finished,
            )
            state.queue.queue.put_nowait(request_output)
            if output.finished:
                del self.request_states[output.request_id]
        return OutputProcessorOutput(request_outputs=[], reqs_to_abort=[])
