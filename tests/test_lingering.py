"""What is followed lives on where the original does: closed or thrown into in vain, or with bad arguments."""

from __future__ import annotations

import json
import sys

import pytest

from conftest import HOOK_KINDS, IN_PLACE
from program import Program

TARGETS = [
    "plain",
    "staying",
    "inside",
    "returning",
    "raising",
    "raising_inside",
    "delegating",
    "over_a_list",
    "over_one_that_takes",
    "coroutine",
    "careful",
    "old_style",
    "agenerator",
    "plain_agenerator",
    "returning_agenerator",
    "raising_agenerator",
    "waiting_agenerator",
]

MADE = [
    "plain()",
    "staying()",
    "inside()",
    "returning()",
    "raising()",
    "raising_inside()",
    "delegating(plain)",
    "delegating(refusing)",
    "delegating(lambda: iter([1, 2, 3]))",
    "delegating(Taking)",
    "over_a_list()",
    "over_one_that_takes()",
    "old_style()",
    "coroutine(plain)",
    "coroutine(refusing)",
    "coroutine(raising)",
    "coroutine(lambda: iter([1, 2, 3]))",
    "coroutine(Taking)",
    "careful(plain)",
    "careful(returning)",
    "coroutine(old_style)",
    "Driven(agenerator())",
    "Driven(plain_agenerator())",
    "Driven(returning_agenerator())",
    "Driven(raising_agenerator())",
    "Driven(waiting_agenerator())",
    "Waited(waiting_agenerator())",
]

FIRST = [
    "made.close()",
    "made.throw(GIVEN[0])",
    "made.throw(GIVEN[1])",
    "made.throw(GIVEN[2])",
    "made.throw(GIVEN[3])",
    "made.throw(ThrownError)",
    "made.throw(GeneratorExit)",
    "made.throw(StopIteration)",
    "made.throw(3)",
    "made.throw()",
    "made.throw(int)",
    "made.throw(ThrownError, None, 3)",
    "made.throw(ThrownError, 'value')",
    "made.throw(GIVEN[0], 'value')",
    "made.send(None)",
]

if sys.version_info >= (3, 12):
    # The original gets a new one with the same value.
    FIRST = [first for first in FIRST if first not in ("made.throw(GIVEN[2])", "made.throw(StopIteration)")]

THEN = [
    "made.close()",
    "made.throw(GIVEN[0])",
    "made.throw(GIVEN[1])",
    "made.throw(ThrownError)",
    "made.throw(3)",
    "made.send(None)",
    "made.send('sent')",
]
"""Each after each of the first, and itself again after that."""

EVERYTHING = "\n".join(f"- {{symbol: 'lingering:{name}'}}" for name in TARGETS)
TWICE = EVERYTHING + "\n" + "\n".join(f"- {{symbol: 'lingering:{name}', name: again}}" for name in TARGETS)

CODE = f"""
import json, lingering, warnings
warnings.simplefilter("ignore")
names = vars(lingering)
acts = {{text: eval(f"lambda made: {{text}}", names) for text in {[*FIRST, *THEN]!r}}}
kept, outcomes = [], {{}}
for make in {MADE!r}:
    for first in {FIRST!r}:
        outcomes[f"{{make}}: {{first}}"] = cases = {{}}
        for then in {THEN!r}:
            for begun in (False, True):
                for wrap in (lambda act: act, lingering.handling):
                    made = eval(make, names)
                    kept.append(made)  # what ends when it is dropped is another matter
                    for error in lingering.GIVEN:
                        error.__traceback__ = error.__context__ = None
                    way = [lambda made: made.send(None)] if begun else []
                    way += [wrap(acts[first]), wrap(acts[then]), wrap(acts[then])]
                    case = f"{{begun}} {{wrap.__name__}} {{then}}"
                    cases[case] = [lingering.told(made, action) for action in way]
print(json.dumps(outcomes))
"""

Outcomes = dict[str, dict[str, list[object]]]


@pytest.fixture(scope="module", params=HOOK_KINDS)
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Outcomes, Outcomes, Outcomes]:
    """What every case gives bare, followed, and followed twice."""
    force_wrapper = IN_PLACE and request.param == "wrapper"
    program = Program(tmp_path_factory.mktemp("cases"), force_wrapper=force_wrapper)
    told = []
    for symbols in ("[]", EVERYTHING, TWICE):
        program.hook(symbols)
        out, _ = program.run(CODE)
        told.append(json.loads(out))
    assert len(program.capture().spans) > len(MADE) * len(FIRST)
    return told[0], told[1], told[2]


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("first", FIRST)
def test_it_lives_as_long_as_the_original(
    outcomes: tuple[Outcomes, Outcomes, Outcomes], make: str, first: str
) -> None:
    bare, *followed = (told[f"{make}: {first}"] for told in outcomes)
    for told in followed:
        assert {case: told[case] for case in bare if told[case] != bare[case]} == {}
