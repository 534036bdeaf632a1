"""Types of the Rust side (`src/python.rs`)."""

from collections.abc import Sequence
from pathlib import Path

__version__: str

def activate(
    config: str,
    home: str,
    symbols_path: str | None,
    frameworks: Sequence[tuple[str, str | None]],
    process_name: str | None,
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

def dump(reason: str) -> Path:
    """Has the flight recorders of this server write what they remember; gives the folder.

    Raises RuntimeError if there is nothing to dump, or if it could not be written.
    """

def stood_for(object: object) -> object | None:  # noqa: A002
    """The function that an object in its place stands for; None for any other object."""

def returned(step: object) -> object:
    """What a coroutine returned that `_follow` has awaited to its end."""

def cli_main(arguments: Sequence[str]) -> int:
    """The command line of `msprof-rs`, the program's name first; gives its exit code."""
