"""Tells Dynamo, the tracer of `torch.compile`, to trace the function itself where an object stands for it.

Left alone, Dynamo looks through the object, but only where it expects a function; and what it notes down of
the defaults and the closure of a method fails at the first call: it can read those only of functions proper.
"""

from __future__ import annotations

from typing import Any

from torch._dynamo.source import AttrSource
from torch._dynamo.variables.builder import SourcelessBuilder, VariableBuilder
from torch._dynamo.variables.functions import UserFunctionVariable

from msprof_rs import _core

ORIGINAL = "_torchdynamo_inline"
"""The attribute of our objects that is the function; Dynamo's own word for it."""


def teach() -> None:
    """Exchanges the three methods of Dynamo by which it meets our objects. To be called once."""
    wrap = VariableBuilder._wrap
    create = SourcelessBuilder.create
    get_source = UserFunctionVariable.get_source

    def wrap_original(self: Any, value: Any) -> Any:
        original = _core.stood_for(value)
        if original is None:
            return wrap(self, value)
        return VariableBuilder(self.tx, AttrSource(self.source, ORIGINAL))(original)

    def create_original(tx: Any, value: Any) -> Any:
        original = _core.stood_for(value)
        return create(tx, value if original is None else original)

    def get_source_of_original(self: Any) -> Any:
        source = get_source(self)
        return AttrSource(source, ORIGINAL) if source and _leads_to_ours(source) else source

    VariableBuilder._wrap = wrap_original
    SourcelessBuilder.create = staticmethod(create_original)
    UserFunctionVariable.get_source = get_source_of_original


def _leads_to_ours(source: Any) -> bool:
    from torch._dynamo.symbolic_convert import InstructionTranslator  # imports what imports us

    value = InstructionTranslator.current_tx().output.resolve_source_value(source)
    return _core.stood_for(value) is not None
