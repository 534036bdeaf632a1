"""Types of the Rust side (`src/python.rs`)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")

__version__: str

def activate(
    config: str,
    home: str,
    symbols_path: str | None,
    frameworks: Sequence[tuple[str, str | None]],
    process_name: str | None,
    hooks: bool,
) -> None:
    """Installs the hooks and starts the recorder.

    `config` is the collection config's path, `frameworks` the packages that are installed with their
    versions. Raises OSError if the recorder cannot start.
    """

def shutdown() -> None:
    """Writes everything and stops recording; a second call does nothing."""

def forked_child() -> None:
    """Gives a forked child a recorder of its own."""

def is_recording() -> bool:
    """Whether events are being collected now."""

def switch(on: bool) -> bool:
    """Switches collection on or off in the config; gives whether this process has followed.

    Raises RuntimeError if the config can't be changed.
    """

def dump(reason: str) -> Path:
    """Has the flight recorders of this server write what they remember; gives the folder.

    Raises RuntimeError if there is nothing to dump, or if it could not be written.
    """

def stood_for(object: object) -> object | None:  # noqa: A002
    """The function that an object in its place stands for; None for any other object."""

def returned(step: object, value: Any) -> Any:
    """What was returned, where `_follow` got `value` from `yield from` or `await`."""

def quietly(function: Callable[..., _T], *arguments: object) -> _T:
    """Calls a function of the profiler's own: no hook acts on what that calls."""

def cli_main(arguments: Sequence[str]) -> int:
    """The command line of `msprof-rs`, the program's name first; gives its exit code."""

class Span:
    """The span of a `with` block."""

    def __enter__(self) -> Span:
        """Begins it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Ends it, with the exception's type if there is one."""

    def __setitem__(self, key: str, value: object) -> None:
        """Adds an attribute."""

def span(
    name: str,
    /,
    *,
    domain: str | None = None,
    rid: object = None,
    level: int = 20,
    **attributes: object,
) -> Span:
    """A span for a `with` block; `rid` is the id of the request that it is for, or a list of them.

    Numbers and texts keep their type, lists and mappings are kept with theirs, of arrays and tensors shape
    and dtype, and of anything else its text.
    """

def event(
    name: str,
    /,
    *,
    domain: str | None = None,
    rid: object = None,
    level: int = 20,
    **attributes: object,
) -> None:
    """Records that something happens now."""

def counter(name: str, value: float, /, *, domain: str | None = None, level: int = 20) -> None:
    """Records the value that something has now."""

def timed(
    function: _F,
    name: str | None,
    domain: str,
    level: int,
    more: tuple[object, ...],
    unknown: dict[str, object],
) -> _F:
    """Puts a timer on a function; gives what is to stand for it: the function itself where that can't be.

    `more` and `unknown` are the arguments that the decorator does not have.
    """

class Profiler:
    """Collects attributes, and records a span or events with them, as msServiceProfiler's does.

    Where the level is not collected at its construction, or its domain is not, nothing has an effect.
    """

    def __new__(cls, level: int) -> Profiler:
        """Decides now whether this level is collected."""

    def domain(self, domain: str) -> Profiler:
        """Sets the domain."""

    def attr(self, key: str, value: object) -> Profiler:
        """Sets an attribute."""

    def res(self, resource: object) -> Profiler:
        """Sets the resource: the id of a request, or a list of them."""

    def metric(self, name: str, value: object) -> Profiler:
        """States the value of a metric."""

    def metric_inc(self, name: str, value: object) -> Profiler:
        """States by how much a metric has grown."""

    def metric_scope(self, name: str, value: object = None) -> Profiler:
        """States what the metrics are of; 0 if no value is given."""

    def metric_scope_as_req_id(self) -> Profiler:
        """The metrics are of each request."""

    def launch(self) -> Profiler:
        """Records the event `Launch`."""

    def link(self, from_rid: object, to_rid: object) -> Profiler:
        """Records that two ids are of the same request."""

    def event(self, name: str) -> Profiler:
        """Records an event."""

    def span_start(self, name: str) -> Profiler:
        """Begins a span."""

    def span_end(self) -> Profiler:
        """Ends it; where none has begun, or a second time, nothing happens."""

    def add_meta_info(self, key: str, value: object) -> Profiler:
        """Records a fact about the process."""

    @property
    def enable(self) -> bool:
        """Whether anything is recorded."""

    def __enter__(self) -> Profiler:
        """Does not begin a span: `with Profiler(…).span_start(…)` does."""

    def __exit__(self, *error: object) -> None:
        """Ends the span."""
