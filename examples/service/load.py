"""The load that the example service is put under: requests made from a seed, some at once, each measured."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from vllm.v1.engine.async_llm import AsyncLLM

VOCABULARY = 1024
SHARED_PREFIXES = 4
PREFIX_TOKENS = 48


@dataclass
class Prompt:
    """One request to send."""

    request_id: str
    token_ids: list[int]
    max_tokens: int


@dataclass
class Served:
    """One request as its client saw it. Times are nanoseconds of the wall clock."""

    request_id: str
    arrival: int
    first_token: int
    end: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int


def make_prompts(count: int, seed: int) -> list[Prompt]:
    """Prompts of 16 to 240 tokens, half with one of a few common prefixes; 4 to 40 tokens to generate."""
    rng = random.Random(seed)

    def tokens(number: int) -> list[int]:
        return [rng.randrange(VOCABULARY) for _ in range(number)]

    prefixes = [tokens(PREFIX_TOKENS) for _ in range(SHARED_PREFIXES)]
    prompts: list[Prompt] = []
    for index in range(count):
        prefix = prefixes[index // 2 % SHARED_PREFIXES] if index % 2 else []
        token_ids = prefix + tokens(rng.randint(16, 192))
        prompts.append(Prompt(f"cmpl-example-{index}-0", token_ids, rng.randint(4, 40)))
    return prompts


async def run_load(engine: AsyncLLM, prompts: list[Prompt], concurrency: int) -> list[Served]:
    """Sends the prompts in order, `concurrency` of them at once."""
    waiting = iter(prompts)
    served: list[Served] = []

    async def client() -> None:
        for prompt in waiting:
            served.append(await send(engine, prompt))

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return sorted(served, key=lambda request: request.arrival)


async def send(engine: AsyncLLM, prompt: Prompt) -> Served:
    """One request from its arrival to its last token."""
    arrival = time.time_ns()
    outputs = engine.generate(prompt.token_ids, prompt.max_tokens, prompt.request_id)
    output = await anext(outputs)
    first_token = time.time_ns()
    async for later in outputs:
        output = later
    return Served(
        request_id=prompt.request_id,
        arrival=arrival,
        first_token=first_token,
        end=time.time_ns(),
        prompt_tokens=output.prompt_tokens,
        output_tokens=output.output_tokens,
        cached_tokens=output.cached_tokens,
    )
