"""What launch scripts call."""

import msprof_rs


def register_service_profiler() -> None:
    """Switches the profiler on, if the environment asks for it."""
    msprof_rs.activate()
