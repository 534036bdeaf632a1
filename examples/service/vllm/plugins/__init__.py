"""Runs what other distributions register for every process of the service, as vLLM does."""

from importlib.metadata import entry_points

DEFAULT_PLUGINS_GROUP = "vllm.general_plugins"
plugins_loaded = False


def load_general_plugins() -> None:
    """Calls each entry point of the group, once per process."""
    global plugins_loaded
    if plugins_loaded:
        return
    plugins_loaded = True
    for entry in entry_points(group=DEFAULT_PLUGINS_GROUP):
        entry.load()()
