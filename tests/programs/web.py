"""Functions of a small web service, whose signatures tell FastAPI what to give to them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header

guarded: list[str] = []


def user_of(x_user: Annotated[str, Header()]) -> str:
    return x_user


async def guard(level: int = 1) -> None:
    guarded.append(f"level {level}")


class Pages:
    """Dependencies that are methods."""

    def page(self, page: int = 1, size: int = 10) -> list[int]:
        return [page, size]

    async def __call__(self, page: int = 2) -> int:
        return page


pages = Pages()


async def shown(item: int, loud: bool = False) -> dict[str, Any]:
    return {"item": item, "loud": loud}
