"""What symbols have hooked goes when the program lets go of it, as without us."""

from __future__ import annotations

import pytest

from program import Program

SHOP = """
import functools

class Marker: pass
MARKER = Marker()

def plain(x=MARKER): return x
async def coroutine(x: Marker = None): return x
def items(x=MARKER): yield x
@functools.lru_cache
def cached(x): return x

class Base:
    def inherited(self): return MARKER

class Shop(Base):
    def __init__(self): self.x = MARKER
    def method(self, x: Marker = MARKER): return x
    @staticmethod
    def static(): return MARKER
    @classmethod
    def of_class(cls): return MARKER
    @property
    def size(self): return MARKER
    @size.setter
    def size(self, value): pass
    @functools.cached_property
    def catalogue(self): return MARKER

class Clerk:
    def __call__(self): return MARKER
clerk = Clerk()

def handler(original, this, *args, **kwargs): return original(*args, **kwargs)
"""

VERSIONS = """
import asyncio, gc, importlib, sys, weakref
alive = weakref.WeakSet()

def use(shop):
    alive.add(shop.Marker)
    for _ in range(20):
        shop.plain(); asyncio.run(shop.coroutine()); list(shop.items()); shop.cached(1); shop.clerk()
        it = shop.Shop()
        it.method(); it.static(); it.of_class(); it.inherited(); it.size; it.catalogue
        it.size = 1

def imported_anew():
    sys.modules.pop("shop", None)
    import shop
    use(shop)

def reloaded():
    import shop
    use(importlib.reload(shop))

for _ in range(5):
    {way}()
sys.modules.pop("shop")
gc.collect()
print(len(alive))
"""

HANDLERS = """
from contextlib import contextmanager
import msprof_rs

def function(original, this, *args, **kwargs):
    with msprof_rs.span("seen"):
        return original(this, *args, **kwargs)

@contextmanager
def context(context):
    with msprof_rs.span("seen"):
        yield
"""

SYMBOLS = {
    "plain": "symbol: 'shop:plain'",
    "attributes": "symbol: 'shop:plain', attributes: [{name: x, expr: 'x | str'}]",
    "coroutine": "symbol: 'shop:coroutine'",
    "generator": "symbol: 'shop:items'",
    "built in": "symbol: 'shop:cached'",
    "constructor": "symbol: 'shop:Shop.__init__'",
    "method": "symbol: 'shop:Shop.method', attributes: [{name: x, expr: 'x | str'}]",
    "handler": "symbol: 'shop:Shop.method', handler: 'watching:function'",
    "context": "symbol: 'shop:Shop.method', handler: 'watching:context'",
    "inherited": "symbol: 'shop:Shop.inherited'",
    "static": "symbol: 'shop:Shop.static'",
    "class": "symbol: 'shop:Shop.of_class'",
    "getter": "symbol: 'shop:Shop.size'",
    "setter": "symbol: 'shop:Shop.size.setter'",
    "cached": "symbol: 'shop:Shop.catalogue'",
    "object": "symbol: 'shop:clerk'",
}


@pytest.mark.parametrize("way", ["imported_anew", "reloaded"])
@pytest.mark.parametrize("symbol", SYMBOLS.values(), ids=SYMBOLS)
def test_versions_of_a_module_go(hooked: Program, symbol: str, way: str) -> None:
    (hooked.folder / "shop.py").write_text(SHOP)
    (hooked.folder / "watching.py").write_text(HANDLERS)
    hooked.hook(f"- {{{symbol}, name: seen}}")
    out, err = hooked.run(VERSIONS.format(way=way))
    assert "WARN" not in err
    assert out.split() == ["0"]
    assert len(hooked.capture().named("seen")) == 100
