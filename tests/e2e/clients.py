"""Clients as they are, with their own figures: they stream or wait, hang up, want several answers at once."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from server import NAME, Server

SECONDS = 120
"""A client gives up after this long without a byte: then the server is broken."""


@dataclass
class Asked:
    """One HTTP request as its client saw it. Times are unix nanoseconds: the server has that clock, too."""

    request_id: str
    """What the header said."""
    prompts: list[str]
    tokens: int
    """Of each answer, if it came to its end."""
    answers: int = 1
    """To each prompt."""
    is_chat: bool = False
    begun: int = 0
    first: int | None = None
    """The first piece of a streamed answer was there."""
    over: int = 0
    """The answer was whole, or the client hung up."""
    hung_up: bool = False
    received: int = 0
    """Tokens that the client was given, by the server's own words."""

    def ids(self) -> list[str]:
        """What the API server calls the requests that it makes of this one: each answer to each prompt."""
        if self.is_chat:
            names = [f"chatcmpl-{self.request_id}"]
        else:
            names = [f"cmpl-{self.request_id}-{number}" for number in range(len(self.prompts))]
        if self.answers == 1:
            return names
        return [f"{index}_{name}" for name in names for index in range(self.answers)]

    def prompt_tokens(self) -> list[int]:
        """Of each of those requests: the tokenizer knows single bytes."""
        prompts = [f"user: {prompt}\n" for prompt in self.prompts] if self.is_chat else self.prompts
        return [len(prompt) for prompt in prompts for _ in range(self.answers)]


def whole(server: Server, asked: Asked) -> Asked:
    """Waits for the whole answer."""
    connection = _ask(server, asked, stream=False)
    answer = json.load(_answer(connection))
    asked.over = time.time_ns()
    asked.received = answer["usage"]["completion_tokens"]
    connection.close()
    return asked


def streamed(server: Server, asked: Asked, pieces: int | None = None) -> Asked:
    """Takes an answer piece by piece, and hangs up after so many of them."""
    connection = _ask(server, asked, stream=True)
    response = _answer(connection)
    for count, piece in enumerate(_pieces(response), 1):
        asked.first = asked.first or time.time_ns()
        asked.received = max(asked.received, piece["usage"]["completion_tokens"])
        if count == pieces:
            asked.hung_up = True
            break
    asked.over = time.time_ns()
    _hang_up(connection, response)
    return asked


def left_alone(server: Server, asked: Asked, other: Asked) -> Asked:
    """Hangs up without having seen anything, once one who asked later is answered: the engine has both."""
    connection = _ask(server, asked, stream=False)
    streamed(server, other, pieces=1)
    asked.over, asked.hung_up = time.time_ns(), True
    _hang_up(connection)
    return asked


def look(server: Server, path: str) -> int:
    """What a load balancer does: a GET; gives the status."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def _ask(server: Server, asked: Asked, stream: bool) -> http.client.HTTPConnection:
    body: dict[str, Any] = {"model": NAME, "ignore_eos": True, "max_tokens": asked.tokens, "n": asked.answers}
    if asked.is_chat:
        path = "/v1/chat/completions"
        body["messages"] = [{"role": "user", "content": prompt} for prompt in asked.prompts]
    else:
        path = "/v1/completions"
        body["prompt"] = asked.prompts if len(asked.prompts) > 1 else asked.prompts[0]
    if stream:
        body |= {
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
    headers = {"Content-Type": "application/json", "X-Request-Id": asked.request_id}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    asked.begun = time.time_ns()
    connection.request("POST", path, json.dumps(body), headers)
    return connection


def _answer(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    response = connection.getresponse()
    assert response.status == http.HTTPStatus.OK, response.read()
    return response


def _pieces(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in response:
        text = line.decode().removeprefix("data: ").strip()
        if text and text != "[DONE]":
            yield json.loads(text)


def _hang_up(
    connection: http.client.HTTPConnection, response: http.client.HTTPResponse | None = None
) -> None:
    if connection.sock is not None:
        connection.sock.shutdown(socket.SHUT_RDWR)
    if response is not None:
        response.close()
    connection.close()
