"""The scheduler's view of one request: its tokens and how many of them the model has computed."""

from __future__ import annotations

import enum

from vllm.v1.engine import EngineCoreRequest


class RequestStatus(enum.IntEnum):
    """Where a request is in its life."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    FINISHED_LENGTH_CAPPED = enum.auto()


class Request:
    """One request in the engine; grows a token per decode step."""

    def __init__(
        self, request_id: str, prompt_token_ids: list[int], max_tokens: int, arrival_time: float
    ) -> None:
        self.request_id = request_id
        self.arrival_time = arrival_time
        self.prompt_token_ids = prompt_token_ids
        self.num_prompt_tokens = len(prompt_token_ids)
        self.max_tokens = max_tokens
        self.output_token_ids: list[int] = []
        self.num_computed_tokens = 0
        self.num_cached_tokens = 0
        self.status = RequestStatus.WAITING

    @classmethod
    def from_engine_core_request(cls, request: EngineCoreRequest) -> Request:
        """The request as it arrived from the API server."""
        return cls(request.request_id, request.prompt_token_ids, request.max_tokens, request.arrival_time)

    @property
    def num_tokens(self) -> int:
        """Prompt and generated tokens so far."""
        return self.num_prompt_tokens + len(self.output_token_ids)

    @property
    def num_output_tokens(self) -> int:
        """Generated tokens so far."""
        return len(self.output_token_ids)

    @property
    def all_token_ids(self) -> list[int]:
        """Prompt and generated tokens so far, in order."""
        return self.prompt_token_ids + self.output_token_ids

    def is_finished(self) -> bool:
        """Whether no further token will come."""
        return self.status is RequestStatus.FINISHED_LENGTH_CAPPED
