"""The API server's engine: takes prompts, yields outputs."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator

from vllm.v1.engine import EngineCoreRequest, EngineStats
from vllm.v1.engine.core_client import AsyncMPClient
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutput, RequestOutputCollector


class AsyncLLM:
    """Makes requests out of prompts and follows them through the engine."""

    def __init__(self, executor: str) -> None:
        self.output_processor = OutputProcessor()
        self.engine_core = AsyncMPClient(executor)
        self.output_handler: asyncio.Task[EngineStats] | None = None

    async def add_request(
        self, request_id: str, prompt: list[int], max_tokens: int, arrival_time: float | None = None
    ) -> RequestOutputCollector:
        """Sends a request to the engine under an id of its own: that of the client and eight hex digits."""
        request = EngineCoreRequest(
            request_id=f"{request_id}-{uuid.uuid4().hex[:8]}",
            prompt_token_ids=prompt,
            max_tokens=max_tokens,
            arrival_time=time.time() if arrival_time is None else arrival_time,
            external_req_id=request_id,
        )
        self._run_output_handler()
        queue = RequestOutputCollector(request.request_id)
        self.output_processor.add_request(request, queue)
        await self.engine_core.add_request_async(request)
        return queue

    async def generate(
        self, prompt: list[int], max_tokens: int, request_id: str
    ) -> AsyncGenerator[RequestOutput, None]:
        """Yields the output of one prompt as it grows."""
        collector = await self.add_request(request_id, prompt, max_tokens)
        finished = False
        while not finished:
            output = await collector.queue.get()
            finished = output.finished
            yield output

    async def shutdown(self) -> EngineStats:
        """Stops the engine, waits for its process and gives its own count of what it did."""
        self._run_output_handler()
        assert self.output_handler is not None
        self.engine_core.stop()
        stats = await self.output_handler
        self.engine_core.process.join()
        return stats

    def _run_output_handler(self) -> None:
        """Starts the task that receives outputs; the first request does so, when the event loop runs."""
        if self.output_handler is None:
            self.output_handler = asyncio.create_task(self._handle_outputs())

    async def _handle_outputs(self) -> EngineStats:
        while True:
            message = await self.engine_core.get_output_async()
            if isinstance(message, EngineStats):
                return message
            self.output_processor.process_outputs(message.outputs, time.monotonic())
