"""The release of vLLM whose shape this package has."""

__version__ = "0.32.0"
