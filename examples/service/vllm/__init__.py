"""A stand-in for vLLM: its module paths, classes and attributes around a model that only takes time.

The demo and the tests use it, so they need neither a model nor a download. Names and shapes follow 0.32.
"""

from vllm.version import __version__

__all__ = ["__version__"]
