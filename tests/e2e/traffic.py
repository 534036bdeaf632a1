"""Requests of all kinds to a server: what the benchmark does not send."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from server import NAME, Server

SECONDS = 120
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"


def post(server: Server, path: str, request_id: str, **body: Any) -> dict[str, Any]:
    """One answer, whole."""
    with _open(server, path, request_id, body) as answer:
        whole: dict[str, Any] = json.load(answer)
    return whole


def stream(server: Server, path: str, request_id: str, **body: Any) -> Iterator[dict[str, Any]]:
    """An answer piece by piece; closing it early aborts the request."""
    with _open(server, path, request_id, body | {"stream": True}) as answer:
        for line in answer:
            text = line.decode().removeprefix("data: ").strip()
            if text and text != "[DONE]":
                yield json.loads(text)


def _open(server: Server, path: str, request_id: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/v1/{path}",
        data=json.dumps({"model": NAME, "ignore_eos": True} | body).encode(),
        headers={"Content-Type": "application/json", "X-Request-Id": request_id},
    )
    return urllib.request.urlopen(request, timeout=SECONDS)


def chat(server: Server, request_id: str, **body: Any) -> dict[str, Any]:
    """A chat with one message."""
    return post(
        server, "chat/completions", request_id, messages=[{"role": "user", "content": "hello"}], **body
    )


def chat_in_pieces(server: Server, request_id: str, tokens: int) -> int:
    """A chat that is streamed; gives the number of its pieces."""
    messages = [{"role": "user", "content": "hello"}]
    return len(list(stream(server, "chat/completions", request_id, messages=messages, max_tokens=tokens)))


def crowd(server: Server, prefix: str, requests: int, prompt: int, tokens: int) -> None:
    """That many completions at once, each with a prompt of its own."""

    def one(number: int) -> None:
        letters = [chr(ord("a") + (number * 7 + i * i) % 26) for i in range(prompt)]
        post(server, "completions", f"{prefix}{number}", prompt="".join(letters), max_tokens=tokens)

    with ThreadPoolExecutor(requests) as pool:
        list(pool.map(one, range(requests)))


def twice(server: Server, request_id: str) -> None:
    """The same prompt again: its blocks are in the prefix cache."""
    for number in range(2):
        post(server, "completions", f"{request_id}{number}", prompt="z" * 100, max_tokens=4)


def aborts(server: Server, prefix: str, requests: int) -> None:
    """That many clients at once that go away after the first piece."""

    def one(number: int) -> None:
        pieces = stream(server, "completions", f"{prefix}{number}", prompt="abc", max_tokens=200)
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]

    with ThreadPoolExecutor(requests) as pool:
        list(pool.map(one, range(requests)))


def structured(server: Server, request_id: str) -> None:
    """An answer by a pattern, by the name that it has in this version."""
    pattern = "[ab]{6}"
    names = {"structured_outputs": {"regex": pattern}, "guided_regex": pattern}
    post(server, "completions", request_id, prompt="abc", max_tokens=6, ignore_eos=False, **names)
