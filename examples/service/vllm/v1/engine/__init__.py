"""The messages between the API server and the engine core."""

from __future__ import annotations

from dataclasses import dataclass

READY = "READY"
"""The first message of a process that has started."""


@dataclass
class EngineCoreRequest:
    """A tokenized request on its way to the engine."""

    request_id: str
    prompt_token_ids: list[int]
    max_tokens: int
    arrival_time: float
    external_req_id: str | None = None
    """The id that the client knows; `request_id` is made unique by a suffix."""


@dataclass
class EngineCoreOutput:
    """New tokens of one request on their way back."""

    request_id: str
    new_token_ids: list[int]
    finish_reason: str | None = None
    num_cached_tokens: int = 0

    @property
    def finished(self) -> bool:
        """Whether these are the last tokens."""
        return self.finish_reason is not None


@dataclass
class EngineCoreOutputs:
    """What a step gives to one client."""

    outputs: list[EngineCoreOutput]


@dataclass
class EngineStats:
    """What the engine did by its own count; sent when it stops."""

    steps: int
    scheduled_tokens: int
