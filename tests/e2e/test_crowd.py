"""A crowd of clients as they are, at a real vLLM: one row for each request, with its client's figures."""

from __future__ import annotations

import itertools
import random
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import pytest
from clients import Asked, left_alone, look, streamed, whole
from environment import VLLM, Environment
from install_vllm import DEFAULT_VERSION
from parsed import SAME_TIME, Parsed, Row, name_of
from server import Server
from traffic import TEMPLATE
from xxhash import xxh3_128_hexdigest

from capture import Capture
from program import Program, wait_until

pytestmark = pytest.mark.skipif(
    VLLM != DEFAULT_VERSION, reason="older versions have a worker in the engine; test_pack.py has them"
)

PROCESSES = 3
"""API server, engine core, worker."""
CLIENTS = 20
"""At once; the engine takes 16."""
LONG = 200
"""More tokens than the engine makes while a client says that it has had enough."""
LENGTHS = range(3, 41)
"""Of prompts, in tokens."""
Client = Callable[[Server, str, random.Random], list[Asked]]


def question(request_id: str, rng: random.Random, lengths: Sequence[int] = (), **figures: int) -> Asked:
    """A request with prompts and answers of their own lengths."""
    prompts = ["".join(rng.choices("abcdefgh", k=length)) for length in lengths or [rng.choice(LENGTHS)]]
    return Asked(request_id, prompts, figures.pop("tokens", rng.randint(2, 24)), **figures)  # type: ignore[arg-type]


def different(rng: random.Random, number: int) -> list[int]:
    """So many lengths of prompts: by them a test tells apart what has one id."""
    return rng.sample(LENGTHS, number)


def waits(server: Server, name: str, rng: random.Random) -> list[Asked]:
    return [whole(server, question(name, rng))]


def streams(server: Server, name: str, rng: random.Random) -> list[Asked]:
    return [streamed(server, question(name, rng))]


def chats(server: Server, name: str, rng: random.Random) -> list[Asked]:
    return [
        whole(server, question(f"{name}-whole", rng, is_chat=True)),
        streamed(server, question(f"{name}-streamed", rng, is_chat=True)),
    ]


def hangs_up(server: Server, name: str, rng: random.Random) -> list[Asked]:
    return [streamed(server, question(name, rng, tokens=LONG), pieces=rng.randint(1, 3))]


def hangs_up_on_several_answers(server: Server, name: str, rng: random.Random) -> list[Asked]:
    return [streamed(server, question(name, rng, tokens=LONG, answers=2), pieces=1)]


def hangs_up_on_a_batch(server: Server, name: str, rng: random.Random) -> list[Asked]:
    return [streamed(server, question(name, rng, different(rng, 2), tokens=LONG), pieces=1)]


def loses_patience(server: Server, name: str, rng: random.Random) -> list[Asked]:
    other = question(f"{name}-other", rng, tokens=LONG)
    return [left_alone(server, question(name, rng, tokens=LONG), other), other]


def retries_after_hanging_up(server: Server, name: str, rng: random.Random) -> list[Asked]:
    return [*hangs_up(server, name, rng), *streams(server, name, rng), *waits(server, name, rng)]


def sends_twice_at_once(server: Server, name: str, rng: random.Random) -> list[Asked]:
    """As a proxy does that has several answers raced."""
    pair = [question(name, rng, [length], tokens=30) for length in different(rng, 2)]
    with ThreadPoolExecutor(len(pair)) as pool:
        return list(pool.map(lambda asked: streamed(server, asked), pair))


def hangs_up_on_one_of_two(server: Server, name: str, rng: random.Random) -> list[Asked]:
    one, other = different(rng, 2)
    with ThreadPoolExecutor(1) as pool:
        left = pool.submit(streamed, server, question(name, rng, [one], tokens=LONG), 1)
        return [whole(server, question(name, rng, [other], tokens=30)), left.result()]


def wants_several_answers(server: Server, name: str, rng: random.Random) -> list[Asked]:
    return [
        whole(server, question(f"{name}-whole", rng, answers=3)),
        streamed(server, question(f"{name}-streamed", rng, answers=2)),
    ]


def retries_several_answers(server: Server, name: str, rng: random.Random) -> list[Asked]:
    return [whole(server, question(name, rng, answers=2)) for _ in range(2)]


def sends_a_batch(server: Server, name: str, rng: random.Random) -> list[Asked]:
    return [
        whole(server, question(f"{name}-whole", rng, different(rng, 3))),
        streamed(server, question(f"{name}-streamed", rng, different(rng, 2))),
        whole(server, question(f"{name}-answers", rng, different(rng, 2), answers=2)),
    ]


def has_long_ids(server: Server, name: str, rng: random.Random) -> list[Asked]:
    """Two that differ in the end alone."""
    long = name + "x" * 10_000
    return [
        whole(server, question(f"{long}-whole", rng)),
        streamed(server, question(f"{long}-streamed", rng)),
    ]


KINDS: list[Client] = [
    waits,
    streams,
    chats,
    hangs_up,
    hangs_up_on_several_answers,
    hangs_up_on_a_batch,
    loses_patience,
    retries_after_hanging_up,
    sends_twice_at_once,
    hangs_up_on_one_of_two,
    wants_several_answers,
    retries_several_answers,
    sends_a_batch,
    has_long_ids,
]
OF_EACH_KIND = 3


def crowd(server: Server) -> list[Asked]:
    """Several clients of each kind at once, and a load balancer that looks at the server's health."""
    clients = [(kind, f"{kind.__name__}-{number}") for kind in KINDS for number in range(OF_EACH_KIND)]
    random.Random(7).shuffle(clients)
    is_over = threading.Event()

    def looks() -> None:
        while not is_over.wait(0.05):
            for path in ("/health", "/v1/models", "/metrics"):
                assert look(server, path) == HTTPStatus.OK

    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        balancer = pool.submit(looks)
        try:
            answers = [pool.submit(kind, server, name, random.Random(name)) for kind, name in clients]
            asked = [one for answer in answers for one in answer.result()]
        finally:
            is_over.set()
        balancer.result()
    return asked


def ceaseless(server: Server, collect: Callable[[Callable[[int], None]], None]) -> list[Asked]:
    """Clients that are there before collection begins and after it has ended; `collect` can wait for more."""
    is_over = threading.Event()
    asked: list[Asked] = []

    def client(number: int) -> None:
        rng = random.Random(number)
        for turn in itertools.count():
            if is_over.is_set():
                return
            kind = KINDS[(number + turn) % len(KINDS)]
            asked.extend(kind(server, f"{kind.__name__}-{number}-{turn}", rng))

    def served(more: int) -> None:
        enough = len(asked) + more
        wait_until(lambda: len(asked) >= enough, f"{more} more requests")

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
        try:
            served(CLIENTS)
            collect(served)
            served(CLIENTS)
        finally:
            is_over.set()
        for outcome in clients:
            outcome.result()
    return asked


class Run:
    """Two crowds at one server: collection is on around the first, and begins and ends amid the second."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        self.program = Program(folder / "profiler")
        self.program.configure(enable=0)
        template = folder / "template"
        template.write_text(TEMPLATE)
        settings = {"SERVICE_PROF_CONFIG_PATH": str(self.program.config)}
        with Server(environment, folder / "server", settings, ["--chat-template", str(template)]) as server:
            self._switch_on()
            self.asked = crowd(server)
            self._switch_off()
            self.asked_around = ceaseless(server, self._collect)
        around, midst = self.program.sessions()
        self.capture = Capture(around)
        self.whole = Parsed(environment, around, folder / "whole")
        self.part = Parsed(environment, midst, folder / "part")

    def _collect(self, served: Callable[[int], None]) -> None:
        self._switch_on()
        served(2 * CLIENTS)
        self._switch_off()

    def _switch_on(self) -> None:
        before = len(self.program.sessions())

        def captures() -> list[int]:
            return [len(list(session.glob("*.pftrace"))) for session in self.program.sessions()[before:]]

        self.program.switch(1)
        wait_until(lambda: captures() == [PROCESSES], "collection in all processes")

    def _switch_off(self) -> None:
        session = self.program.sessions()[-1]
        self.program.switch(0)
        wait_until(
            lambda: all(path.suffix == ".pftrace" for path in session.iterdir()), "the end of collection"
        )


@pytest.fixture(scope="module")
def run(vllm_once: Environment, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(vllm_once, tmp_path_factory.mktemp(f"crowd-{vllm_once.python_version}"))


def shown(name: str) -> str:
    """A long id is recorded as its beginning and a hash of all of it."""
    return name if len(name) <= 256 else f"{name[:200]}…{xxh3_128_hexdigest(name.encode())}"


def by_name(asked: list[Asked]) -> dict[str, list[tuple[int, Asked]]]:
    """What the server makes of the clients' requests, each with the tokens of its prompt."""
    requests = defaultdict(list)
    for one in asked:
        for name, prompt in zip(one.ids(), one.prompt_tokens(), strict=True):
            requests[shown(name)].append((prompt, one))
    return requests


def pairs(run: Run) -> list[tuple[Asked, Row]]:
    """Each request of the first crowd with its row: those of one id are told apart by their prompts."""
    rows = defaultdict(list)
    for row in run.whole.rows:
        rows[row.name].append(row)
    found = []
    for name, requests in by_name(run.asked).items():
        requests.sort(key=lambda request: (request[0], request[1].begun))
        rows[name].sort(key=lambda row: (row.prompt, row.arrival))
        found += [(one, row) for (_, one), row in zip(requests, rows[name], strict=True)]
    return found


def is_cut_off(one: Asked, row: Row) -> bool:
    """Its client hung up, and was fast enough: the engine had not made all of it."""
    return one.hung_up and row.tokens is not None and row.tokens < one.tokens


def test_each_request_is_one_row_in_every_table(run: Run) -> None:
    """Each prompt of a batch is a request, so is each of several answers; a look at the health is none."""
    assert Counter(row.name for row in run.whole.rows) == {
        name: len(requests) for name, requests in by_name(run.asked).items()
    }
    ids = [row.id for row in run.whole.rows]
    assert len(set(ids)) == len(ids), "those with one id are numbered"
    assert [row["http_rid"] for row in run.whole.table("request.csv")] == ids
    assert re.search(rf"^Figures +requests +{len(ids)}$", run.whole.summary, re.MULTILINE)
    assert any(span.attributes["path"] == "/health" for span in run.capture.named("httpRequest"))


def test_each_row_has_all_figures(run: Run) -> None:
    for row in run.whole.rows:
        assert None not in (row.prompt, row.tokens, row.arrival, row.latency), row
        # An answer to one who hung up may not have begun while another of the same client had.
        assert (row.first_token is None) == (row.tokens == 0), row


def test_tokens_are_those_that_the_client_was_given(run: Run) -> None:
    given: Counter[int] = Counter()
    for one, row in pairs(run):
        assert row.prompt in one.prompt_tokens()
        assert row.tokens is not None
        given[id(one)] += int(row.tokens)
        assert row.tokens == one.tokens or is_cut_off(one, row)
    for one in run.asked:
        assert given[id(one)] == one.received or (one.hung_up and given[id(one)] > one.received)
    whole = sum(row.tokens or 0 for one, row in pairs(run) if not is_cut_off(one, row))
    figures = {row["Metric"]: float(row["Value"]) for row in run.whole.table("service_summary.csv")}
    assert figures["total_generated_token_num"] == whole


def test_times_lie_within_those_of_the_client(run: Run) -> None:
    first: dict[int, float] = {}
    for one, row in pairs(run):
        assert row.arrival is not None
        assert row.end is not None
        assert one.begun / 1e6 < row.arrival + SAME_TIME
        if not one.hung_up:
            assert row.end < one.over / 1e6 + SAME_TIME
        if row.first_token is not None:
            first[id(one)] = min(first.get(id(one), row.end), row.arrival + row.first_token)
    for one in run.asked:
        if one.first is not None:
            assert first[id(one)] < one.first / 1e6 + SAME_TIME


def test_a_request_whose_client_hung_up_lasts_until_the_engine_lets_it_go(run: Run) -> None:
    """Its HTTP answer broke off, which ends nothing: the engine works on until it hears of that."""
    aborts = defaultdict(list)
    for event in run.capture.named("coreRes"):
        if event.attributes["reason"] == "aborted":
            aborts[name_of(event.attributes["rid"])].append(event.start / 1e6)
    left = [(one, row) for one, row in pairs(run) if is_cut_off(one, row)]
    assert left
    assert len(left) == sum(map(len, aborts.values()))
    for one, row in left:
        assert row.end is not None
        assert min(abs(row.end - time) for time in aborts[row.name]) < 0.001
        assert row.end > one.over / 1e6 - SAME_TIME


def test_where_collection_begins_or_ends_amid_requests_each_has_one_row_at_most(run: Run) -> None:
    requests = by_name(run.asked_around)
    for name, count in Counter(row.name for row in run.part.rows).items():
        assert count <= len(requests[name]), name
    ids = [row.id for row in run.part.rows]
    assert len(set(ids)) == len(ids)
    for row in run.part.rows:
        assert (row.prompt, row.tokens, row.arrival) != (None, None, None), f"{row.id} is empty"
        assert any(agrees(row, prompt, one) for prompt, one in requests[row.name]), row
    assert sum(row.latency is not None for row in run.part.rows) >= CLIENTS


def agrees(row: Row, prompt: int, one: Asked) -> bool:
    """Whether what is known of a row may be of this request."""
    return (
        row.prompt in (None, prompt)
        and (row.tokens in (None, one.tokens) or (one.hung_up and (row.tokens or 0) < one.tokens))
        and (row.arrival is None or one.begun / 1e6 < row.arrival + SAME_TIME)
        and (row.end is None or one.hung_up or row.end < one.over / 1e6 + SAME_TIME)
    )
