"""The work of `any_program.py`: customers who order at the same time. It knows nothing of profiling."""

from __future__ import annotations

import asyncio

PRICES = {"tea": 3, "bread": 4, "jam": 5}


def price_of(product: str, quantity: int) -> int:
    """The price, with a discount for ten or more."""
    price = PRICES[product] * quantity
    return price * 9 // 10 if quantity >= 10 else price


class Order:
    """What one customer wants."""

    def __init__(self, customer: int) -> None:
        self.customer = customer
        self.lines = {product: 1 + (customer + i) % 12 for i, product in enumerate(PRICES)}

    def total(self) -> int:
        """The sum over all lines."""
        return sum(price_of(product, quantity) for product, quantity in self.lines.items())


async def deliver(order: Order) -> int:
    """Takes a while, and lets the others go on meanwhile."""
    await asyncio.sleep(0.001 * (1 + order.customer % 5))
    return order.total()


async def serve_customers(count: int) -> int:
    """All customers at once."""
    return sum(await asyncio.gather(*(deliver(Order(i)) for i in range(count))))
