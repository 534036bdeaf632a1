"""The worker in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections import deque
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import READY
from vllm.v1.executor.abstract import Executor
from vllm.v1.worker.worker_base import WorkerWrapperBase


class FutureWrapper(Future[Any]):
    """Becomes done only when somebody asks for the result, as in vLLM."""

    def __init__(self, connection: Connection, pending: deque[FutureWrapper]) -> None:
        super().__init__()
        self._connection = connection
        self._pending = pending

    def result(self, timeout: float | None = None) -> Any:
        """Receives the replies up to this one, and gives it."""
        while not self.done():
            earliest = self._pending.popleft()
            earliest.set_result(self._connection.recv())
        return super().result(timeout)


class MultiprocExecutor(Executor):
    """Sends calls over a pipe; replies come in the order of the calls."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, worker_end = context.Pipe()
        self._pending: deque[FutureWrapper] = deque()
        self._process = context.Process(target=worker_main, args=(worker_end,), name="VllmWorker-0")
        self._process.start()
        worker_end.close()
        if self._connection.recv() != READY:
            raise RuntimeError("the worker did not start")

    def collective_rpc(self, method: str, args: tuple[Any, ...] = (), non_block: bool = False) -> Any:
        """See `Executor`."""
        self._connection.send((method, args))
        future = FutureWrapper(self._connection, self._pending)
        self._pending.append(future)
        return future if non_block else future.result()

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        """See `Executor`."""
        return self.collective_rpc("execute_model", (scheduler_output,), non_block)

    def shutdown(self) -> None:
        """Closes the pipe and waits for the worker's end."""
        self._connection.close()
        self._process.join()


def worker_main(connection: Connection) -> None:
    """The worker's process: calls methods until the pipe is closed."""
    worker = WorkerWrapperBase()
    worker.init_worker()
    connection.send(READY)
    while True:
        try:
            method, args = connection.recv()
        except EOFError:
            return
        connection.send(worker.execute_method(method, *args))
