"""What a step of the model gives back."""

from dataclasses import dataclass


@dataclass
class ModelRunnerOutput:
    """The sampled tokens, one list per request of the batch; empty while a prompt is not complete."""

    req_ids: list[str]
    sampled_token_ids: list[list[int]]
