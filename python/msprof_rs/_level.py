"""Levels of detail, by the names that msServiceProfiler has for them."""

from __future__ import annotations

from enum import IntEnum


class Level(IntEnum):
    """How much detail an event is; it is collected if `profiler_level` is at least that."""

    ERROR = 10
    INFO = 20
    DETAILED = 30
    VERBOSE = 40

    LEVEL_CORE_TRACE = 10
    LEVEL_OUTLIER_ENENT = 10  # spelt so in the code that users have
    LEVEL_NORMAL_TRACE = 20
    LEVEL_DETAILED_TRACE = 30
    L0 = 10
    L1 = 20
    L2 = 30
