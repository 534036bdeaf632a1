"""Libraries pass their own tests with every one of their functions hooked, as they do without."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from library import FOLDER, LIBRARIES, Library, Outcomes, environment, prepare

from program import Program

MANY_SPANS = 50_000
MOST_REPEATED = 20


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    prepare()


@functools.cache
def bare(library: Library) -> Outcomes:
    return library.run(_emptied(FOLDER / "bare" / library.name), environment())


def _emptied(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.log").unlink(missing_ok=True)
    return folder


def _different(expected: Outcomes, found: Outcomes, ids: set[str]) -> set[str]:
    """Tests that ended otherwise; why they failed may be said otherwise, with addresses in it."""

    def endings(outcome: list[str] | None) -> list[str]:
        return [part for part in outcome or [] if re.fullmatch(r"[a-z ]+", part)]

    return {test for test in ids if endings(expected.get(test)) != endings(found.get(test))}


def test_what_ends_otherwise_is_seen() -> None:
    expected = {
        "a": ["call passed"],
        "b": ["call failed", "E   at 0x1"],
        "c": ["setup skipped"],
        "d": ["call passed"],
    }
    found = {"a": ["call failed", "E   no"], "b": ["call failed", "E   at 0x2"], "c": ["setup skipped"]}
    assert _different(expected, found, set("abcd")) == {"a", "d"}


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_a_library_passes_the_same_tests_with_every_function_hooked(
    library: Library, hooked: Program
) -> None:
    expected = bare(library)
    way = (
        "wrapper"
        if sys.version_info < (3, 12) or "MSPROF_FORCE_WRAPPER" in hooked.environment
        else "in place"
    )
    hooked.hook(library.symbols())
    ours = {name: value for name, value in hooked.environment.items() if name.startswith(("MSPROF_", "PROF"))}
    ours |= {"SERVICE_PROF_CONFIG_PATH": str(hooked.config), "PROF_LOG_LEVEL": "WARNING"}
    found = library.run(hooked.folder, environment() | ours)

    different = _different(expected, found, expected.keys() | found.keys())
    if 0 < len(different) <= MOST_REPEATED:
        # Some have time limits: what differs must do so again, alone.
        spare = _emptied(hooked.folder / "bare")
        expected = library.run(spare, environment(), sorted(different))
        again = library.run(hooked.folder, environment() | ours, sorted(different))
        different = _different(expected, again, different)
    known = set(library.differences.get(way, {}))
    reasons = {test: (expected.get(test), found.get(test)) for test in different - known}
    assert not reasons, (
        f"{len(reasons)} tests of {library.name} end otherwise: {dict(list(reasons.items())[:5])}"
    )
    assert different == known, "a known difference is none any more: take it off the list"

    summary = subprocess.run(
        [sys.executable, "-m", "msprof_rs.cli", "parse", "--format", "csv",
         "--input-path", hooked.prof_dir, "--output-path", hooked.folder / "output"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    spans = re.search(r"([\d,]+) spans", summary)
    assert spans is not None, summary
    assert int(spans[1].replace(",", "")) > MANY_SPANS, summary
    assert re.search(r"^Dropped +nothing", summary, re.MULTILINE), summary
