"""The engine: steps the scheduler and the executor, in a process of its own."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from multiprocessing.connection import Connection

from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import READY, EngineCoreOutputs, EngineCoreRequest, EngineStats
from vllm.v1.executor.abstract import Executor
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

Outputs = dict[int, EngineCoreOutputs]


class EngineCore:
    """The inner loop, without the process around it."""

    def __init__(self, executor: str) -> None:
        from vllm.plugins import load_general_plugins

        load_general_plugins()
        self.model_executor = Executor.get_class(executor)()
        self.scheduler = Scheduler()
        self.stats = EngineStats(steps=0, scheduled_tokens=0)

    def preprocess_add_request(self, request: EngineCoreRequest) -> Request:
        """Makes the scheduler's request out of the message; runs in the input thread."""
        return Request.from_engine_core_request(request)

    def add_request(self, request: Request) -> None:
        """Hands a request to the scheduler."""
        self.scheduler.add_request(request)

    def step(self) -> tuple[Outputs, bool]:
        """Schedules, executes and collects one batch; tells whether the model ran."""
        if not self.scheduler.has_requests():
            return {}, False
        scheduler_output = self.scheduler.schedule()
        future: Future[ModelRunnerOutput | None] = self.model_executor.execute_model(
            scheduler_output, non_block=True
        )
        model_output = future.result()
        if model_output is None:
            model_output = self.model_executor.sample_tokens()
        outputs = self.scheduler.update_from_output(scheduler_output, model_output)
        num_tokens = scheduler_output.total_num_scheduled_tokens
        self.stats.steps += num_tokens > 0
        self.stats.scheduled_tokens += num_tokens
        return outputs, num_tokens > 0

    def step_with_batch_queue(self) -> tuple[Outputs, bool]:
        """What vLLM calls instead where steps overlap; here they never do."""
        return self.step()

    def shutdown(self) -> None:
        """Stops the workers."""
        self.model_executor.shutdown()


class EngineCoreProc(EngineCore):
    """The engine in its process: one thread reads requests, the main thread steps."""

    def __init__(self, connection: Connection, executor: str) -> None:
        super().__init__(executor)
        self.connection = connection
        self.input_queue: queue.Queue[Request | None] = queue.Queue()
        self.stopping = False
        threading.Thread(target=self.process_input_socket, name="input", daemon=True).start()

    @staticmethod
    def run_engine_core(connection: Connection, executor: str) -> None:
        """The entry point of the process."""
        engine_core = EngineCoreProc(connection, executor)
        connection.send(READY)
        try:
            engine_core.run_busy_loop()
        finally:
            engine_core.shutdown()
        connection.send(engine_core.stats)

    def process_input_socket(self) -> None:
        """Receives requests until the API server says None or is gone."""
        message: EngineCoreRequest | None
        while True:
            try:
                message = self.connection.recv()
            except (EOFError, OSError):
                message = None
            self.input_queue.put(None if message is None else self.preprocess_add_request(message))
            if message is None:
                return

    def run_busy_loop(self) -> None:
        """Works until told to stop and everything is done."""
        while True:
            self._process_input_queue()
            if self.stopping and not self.scheduler.has_requests():
                return
            self._process_engine_step()

    def _process_input_queue(self) -> None:
        """Takes what has arrived; waits only when there is nothing else to do."""
        while not self.stopping:
            try:
                request = self.input_queue.get(block=not self.scheduler.has_requests())
            except queue.Empty:
                return
            if request is None:
                self.stopping = True
            else:
                self.add_request(request)

    def _process_engine_step(self) -> None:
        outputs, _ = self.step()
        for client_outputs in outputs.values():
            self.connection.send(client_outputs)
