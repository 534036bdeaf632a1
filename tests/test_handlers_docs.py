"""The examples of `docs/handlers.md` run."""

from __future__ import annotations

import os
import re
from pathlib import Path

from program import Program

ROOT = Path(__file__).parent.parent


def blocks(language: str) -> str:
    """All code of one language, in order."""
    text = (ROOT / "docs" / "handlers.md").read_text()
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def test_the_examples_run_and_change_nothing(hooked: Program) -> None:
    (hooked.folder / "shop_handlers.py").write_text(blocks("python"))
    path = os.pathsep.join((str(hooked.folder), str(ROOT / "examples")))
    serve = "import asyncio, shop, shop_handlers as our\nprint(asyncio.run(shop.serve_customers(50)))\n"
    hooked.hook("[]")
    sold, _ = hooked.run(serve, PYTHONPATH=path)
    hooked.hook(blocks("yaml"))
    out, err = hooked.run(
        serve
        + """
discounts, largest = dict(our.discounts), our.largest
orders = [shop.Order(n) for n in range(50)]
assert discounts == {p: sum(order.lines[p] >= 10 for order in orders) for p in shop.PRICES}, discounts
assert largest == max((order.total(), order.customer) for order in orders), largest
assert (our.InFlight.most, our.InFlight.now) == (50, 0)
assert set(our.late) >= set(range(4, 50, 5)), our.late
""",
        PYTHONPATH=path,
    )
    assert out == sold
    assert "WARN" not in err
