"""The logger that handlers write to."""

import logging

logger = logging.getLogger("ms_service_profiler")
