"""Has code that was written for msServiceProfiler find what it imports, where that is not installed."""

import os
import sys

TYPE_CHECKING = False  # what type checkers take for `typing.TYPE_CHECKING`, which is slow to import
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

PACKAGE = "ms_service_profiler"
_FOLDER = os.path.join(os.path.dirname(__file__), PACKAGE)
_PLUGINS = "vllm.general_plugins"


class Finder:
    """Finds our stand-in for the package. Asked last, so never where the real one is installed."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: "ModuleType | None" = None) -> "ModuleSpec | None":
        """The spec of the top-level package alone: what is below it is found in its folder."""
        if name != PACKAGE:
            return None
        from importlib.util import spec_from_file_location  # slow to import

        file = os.path.join(_FOLDER, "__init__.py")
        return spec_from_file_location(name, file, submodule_search_locations=[_FOLDER])


def install() -> None:
    """To be called once."""
    sys.meta_path.append(Finder)


def real_one_hooks() -> bool:
    """Whether vLLM loads the real msServiceProfiler as a plugin, which then hooks the functions itself."""
    from msprof_rs._frameworks import folder_of

    if folder_of(PACKAGE) is None:
        return False
    from importlib.metadata import entry_points  # slow, and only asked where the package is there

    allowed = os.environ.get("VLLM_PLUGINS")
    names = None if allowed is None else [name.strip() for name in allowed.split(",")]
    return any(
        plugin.value.startswith(f"{PACKAGE}.") and (names is None or plugin.name in names)
        for plugin in entry_points(group=_PLUGINS)
    )
