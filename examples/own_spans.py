"""Code that records by itself: `msprof-rs run -- examples/own_spans.py`."""

from __future__ import annotations

import asyncio

import msprof_rs
from msprof_rs import Level, Profiler


@msprof_rs.timed
def price(product: str) -> float:
    """A span for each call, by the function's name."""
    return len(product) * 0.5


@msprof_rs.timed(name="delivery", domain="Shop", level=Level.DETAILED)
async def deliver(order: int) -> int:
    """A coroutine's span lasts until it is done."""
    with msprof_rs.span("on the road", domain="Shop", rid=f"order-{order}") as span:
        await asyncio.sleep(0.01)
        span["late"] = order % 5 == 4
    return order


async def main() -> int:
    """Twenty orders at once."""
    total = 0
    for product in ("tea", "coffee", "cake"):
        with msprof_rs.span("sale", domain="Shop", product=product):
            total += int(price(product))
        msprof_rs.counter("taken", total, domain="Shop")
    done = await asyncio.gather(*(deliver(order) for order in range(20)))
    msprof_rs.event("closed", domain="Shop", rid=[f"order-{order}" for order in done])
    # As code for msServiceProfiler does it.
    Profiler(Level.INFO).domain("Shop").metric("orders", len(done)).event("counted")
    return total


if __name__ == "__main__":
    print(asyncio.run(main()), "while collecting" if msprof_rs.is_enabled() else "unseen")
