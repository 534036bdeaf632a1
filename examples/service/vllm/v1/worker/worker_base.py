"""The worker that the executors talk to."""

from __future__ import annotations

from typing import Any


class WorkerWrapperBase:
    """Holds the model runner, which exists only after `init_worker`."""

    def init_worker(self) -> None:
        """Loads the plugins, then the model."""
        from vllm.plugins import load_general_plugins

        load_general_plugins()

        from vllm.v1.worker.gpu_model_runner import GPUModelRunner

        self.model_runner = GPUModelRunner()

    def execute_method(self, method: str, *args: Any) -> Any:
        """Calls a method of the model runner by name."""
        return getattr(self.model_runner, method)(*args)
