"""The API server's end of the pipe to the engine core's process."""

from __future__ import annotations

import asyncio
import multiprocessing

from vllm.v1.engine import READY, EngineCoreOutputs, EngineCoreRequest, EngineStats
from vllm.v1.engine.core import EngineCoreProc


class AsyncMPClient:
    """Starts the engine's process, waits until it is ready, and talks to it."""

    def __init__(self, executor: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, engine_end = context.Pipe()
        self.process = context.Process(
            target=EngineCoreProc.run_engine_core, args=(engine_end, executor), name="EngineCore"
        )
        self.process.start()
        engine_end.close()
        if self.connection.recv() != READY:
            raise RuntimeError("the engine did not start")

    async def add_request_async(self, request: EngineCoreRequest) -> None:
        """Sends a request."""
        self.connection.send(request)

    async def get_output_async(self) -> EngineCoreOutputs | EngineStats:
        """The next message of the engine; its statistics are the last one."""
        loop = asyncio.get_running_loop()
        message: EngineCoreOutputs | EngineStats = await loop.run_in_executor(None, self.connection.recv)
        return message

    def stop(self) -> None:
        """Asks the engine to finish what it has and to end."""
        self.connection.send(None)
