"""Others who time calls, each applied to one method as its documentation says."""

from __future__ import annotations

import cProfile
import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from types import FunctionType
from typing import Any

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def closure() -> Decorator:
    """The decorator that people write first: two clock readings and a list."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        spans: list[int] = []

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter_ns()
            try:
                return function(*args, **kwargs)
            finally:
                spans.append(time.perf_counter_ns() - start)
                if len(spans) > 100_000:
                    spans.clear()

        return timed

    return decorate


def wrapt() -> Decorator:
    """An empty decorator; its own cost alone."""
    wrapt: Any = import_module("wrapt")

    @wrapt.decorator  # type: ignore[untyped-decorator, unused-ignore]
    def decorate(function: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return decorate  # type: ignore[no-any-return, unused-ignore]


def opentelemetry() -> Decorator:
    """A span per call, given to an exporter that drops it: what any exporter does comes on top."""
    trace: Any = import_module("opentelemetry.sdk.trace")
    export: Any = import_module("opentelemetry.sdk.trace.export")

    class Nowhere(export.SpanExporter):  # type: ignore[misc]
        def export(self, spans: Any) -> Any:
            return export.SpanExportResult.SUCCESS

    provider = trace.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(Nowhere()))
    decorate: Decorator = provider.get_tracer("bench").start_as_current_span("method")
    return decorate


def nvtx() -> Decorator:
    """Ranges that a tool from NVIDIA records; without one it leaves the function alone."""
    decorate: Decorator = import_module("nvtx").annotate("method")
    return decorate


def record_function() -> Decorator:
    """A range of PyTorch's profiler, which does not run; where it runs, each call costs more."""
    decorate: Decorator = import_module("torch.profiler").record_function("method")
    return decorate


def c_profile() -> Callable[[], AbstractContextManager[None]]:
    """The profiler of the standard library."""

    @contextmanager
    def on() -> Iterator[None]:
        profile = cProfile.Profile()
        profile.enable()
        try:
            yield
        finally:
            profile.disable()

    return on


def viztracer() -> Callable[[], AbstractContextManager[None]]:
    """Its tracer on, its buffer large enough for a loop."""
    tracer: Any = import_module("viztracer").VizTracer(verbose=0, tracer_entries=200_000)

    @contextmanager
    def on() -> Iterator[None]:
        tracer.start()
        try:
            yield
        finally:
            tracer.stop()
            tracer.clear()

    return on


def entry_in_place() -> Decorator:
    """A function's C entry, replaced by one that calls the former: the price of a call that is not inlined.

    Nothing that hooks in place can cost less: the floor of ours on CPython ≥ 3.12.
    """
    if sys.version_info < (3, 12):
        raise ImportError("entries are replaced from CPython 3.12 on")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        python = ctypes.pythonapi
        python.PyVectorcall_Function.restype = ctypes.c_void_p
        former = python.PyVectorcall_Function(ctypes.py_object(function))
        with tempfile.TemporaryDirectory() as folder:
            library = f"{folder}/entry.so"
            source = (
                "#include <stddef.h>\n"
                "void *(*former)(void *, void *const *, size_t, void *);\n"
                "void *entry(void *function, void *const *args, size_t count, void *names)\n"
                "{ return former(function, args, count, names); }\n"
            )
            command = ["cc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", library]
            subprocess.run(command, input=source, text=True, check=True)
            native = ctypes.CDLL(library)
        ctypes.c_void_p.in_dll(native, "former").value = former
        assert isinstance(function, FunctionType)
        copy = FunctionType(function.__code__, function.__globals__)
        python.PyFunction_SetVectorcall(ctypes.py_object(copy), native.entry)
        return copy

    return decorate


CLOSURE, WRAPT = "Python closure, two perf_counter_ns", "wrapt, decorator that does nothing"

#: Those that are put on a function.
DECORATORS: dict[str, Callable[[], Decorator]] = {
    "empty C entry in place (the floor of hooks there)": entry_in_place,
    CLOSURE: closure,
    WRAPT: wrapt,
    "nvtx.annotate": nvtx,
    "torch.profiler.record_function, profiler off": record_function,
    "OpenTelemetry SDK, exporter that drops": opentelemetry,
}

#: Those that are switched on for the whole interpreter.
GLOBAL = {"cProfile, on": c_profile, "VizTracer, tracer on": viztracer}
