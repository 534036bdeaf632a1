"""The worker in the process of the engine."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.executor.abstract import Executor
from vllm.v1.worker.worker_base import WorkerWrapperBase


class UniProcExecutor(Executor):
    """Calls the worker directly, so its futures are done when they are made."""

    def __init__(self) -> None:
        self.driver_worker = WorkerWrapperBase()
        self.driver_worker.init_worker()

    def collective_rpc(self, method: str, args: tuple[Any, ...] = (), non_block: bool = False) -> Any:
        """See `Executor`."""
        result = self.driver_worker.execute_method(method, *args)
        if not non_block:
            return result
        future: Future[Any] = Future()
        future.set_result(result)
        return future

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        """See `Executor`."""
        return self.collective_rpc("execute_model", (scheduler_output,), non_block)
