"""What msServiceProfiler offers to code of others, by `msprof_rs`."""

from msprof_rs import Level, Profiler

__all__ = ["Level", "Profiler"]
