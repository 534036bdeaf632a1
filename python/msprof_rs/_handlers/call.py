"""What a driver gets from the Rust side with each call, before the arguments of the target."""

from __future__ import annotations

from typing import Any, Protocol


class Inner(Protocol):
    """The call as it goes on inside of the hook. It is the driver's part to call this only once."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class Report(Protocol):
    """Where what is wrong with the handler is counted and told."""

    def failed(self, error: BaseException) -> None:
        """Counts a failure; after five the timer takes the handler's place."""

    def not_called(self) -> None:
        """The handler returned without a call of the original. Told once."""

    def not_awaited(self) -> None:
        """The handler called the original and left it at that. Told once."""
