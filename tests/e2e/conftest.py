"""The real vLLM, once for each way in which functions are hooked: 3.11 has wrappers, 3.12 hooks in place."""

from __future__ import annotations

import os

import install_vllm
import pytest
from environment import Environment, UnavailableError, skip_loudly

VLLM = os.environ.get("VLLM") or install_vllm.DEFAULT_VERSION
"""`make e2e VLLM=0.11.0` runs another one."""


@pytest.fixture(scope="session", params=["3.11", "3.12"])
def vllm(request: pytest.FixtureRequest) -> Environment:
    """A real vLLM with our wheel installed."""
    try:
        environment = Environment(request.param, VLLM)
    except UnavailableError as error:
        skip_loudly(f"vLLM {VLLM} on CPython {request.param}: {error}")
    environment.install_wheel()
    return environment
