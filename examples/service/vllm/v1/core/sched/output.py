"""What the scheduler tells the workers to compute in one step."""

from __future__ import annotations

from dataclasses import dataclass, field

from vllm.v1.request import Request


@dataclass
class NewRequestData:
    """All about a request that is scheduled for the first time."""

    req_id: str
    prompt_token_ids: list[int]
    block_ids: tuple[list[int], ...]
    num_computed_tokens: int

    @classmethod
    def from_request(cls, request: Request, block_ids: tuple[list[int], ...]) -> NewRequestData:
        """The state of the request before this step."""
        return cls(request.request_id, request.prompt_token_ids, block_ids, request.num_computed_tokens)


@dataclass
class CachedRequestData:
    """What is new about requests that the workers know already; the lists run in parallel."""

    req_ids: list[str] = field(default_factory=list)
    new_block_ids: list[tuple[list[int], ...]] = field(default_factory=list)
    num_computed_tokens: list[int] = field(default_factory=list)
    num_output_tokens: list[int] = field(default_factory=list)

    @property
    def num_reqs(self) -> int:
        """How many requests there are."""
        return len(self.req_ids)

    def add(self, request: Request, new_block_ids: tuple[list[int], ...]) -> None:
        """Appends the state of the request before this step."""
        self.req_ids.append(request.request_id)
        self.new_block_ids.append(new_block_ids)
        self.num_computed_tokens.append(request.num_computed_tokens)
        self.num_output_tokens.append(request.num_output_tokens)


@dataclass
class SchedulerOutput:
    """One batch."""

    scheduled_new_reqs: list[NewRequestData]
    scheduled_cached_reqs: CachedRequestData
    num_scheduled_tokens: dict[str, int]
    total_num_scheduled_tokens: int
    finished_req_ids: set[str]
    """Requests that ended since the step before."""
    scheduled_spec_decode_tokens: dict[str, list[int]] = field(default_factory=dict)
