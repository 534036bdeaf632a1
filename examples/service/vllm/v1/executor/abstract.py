"""What the engine needs of the workers."""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.output import SchedulerOutput


class Executor:
    """Runs a method on the worker; its subclasses say where the worker lives."""

    @staticmethod
    def get_class(name: str) -> type[Executor]:
        """`uni` has the worker in the engine's process, `mp` in one of its own."""
        if name == "mp":
            from vllm.v1.executor.multiproc_executor import MultiprocExecutor

            return MultiprocExecutor
        from vllm.v1.executor.uniproc_executor import UniProcExecutor

        return UniProcExecutor

    def collective_rpc(self, method: str, args: tuple[Any, ...] = (), non_block: bool = False) -> Any:
        """Calls the worker's method; with `non_block` the result is a future."""
        raise NotImplementedError

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        """Computes a batch: None, since the tokens are sampled apart, or a future of it."""
        return self.collective_rpc("execute_model", (scheduler_output,), non_block)

    def sample_tokens(self, grammar_output: None = None, non_block: bool = False) -> Any:
        """Samples the tokens of the batch computed last."""
        return self.collective_rpc("sample_tokens", (grammar_output,), non_block)

    def shutdown(self) -> None:
        """Ends the worker."""
