"""The symbol packs fit the releases that they say they are for.

Every entry names something that is there, and every expression fits it. Read from the released sources;
nothing is installed.

`make releases ALL=1` looks at every release that the packs were made for, not only at some.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sources import UnavailableError, source_of

PACKS = Path(__file__).parents[2] / "python" / "msprof_rs" / "packs"
COMMAND = str(Path(sys.executable).with_name("msprof-rs"))

SOME = {
    "vllm": ["0.9.1", "0.11.0", "0.20.2", "0.32.0", "0.33.0"],
    "sglang": ["0.5.4", "0.5.12", "0.5.23"],
    "vllm-ascend": ["0.11.0", "0.23.0", "0.30.0rc1"],
}
OTHERS = {
    "vllm": "0.9.2 0.10.0 0.10.1.1 0.10.2 0.11.1 0.11.2 0.12.0 0.13.0 0.14.0 0.14.1 0.16.0 0.17.1 0.18.1 "
    "0.19.1 0.21.0 0.22.0 0.22.1 0.23.0 0.24.0 0.25.1 0.26.0 0.27.1 0.28.0 0.29.0 0.30.0 0.31.0",
    "sglang": "0.5.5.post3 0.5.6 0.5.7 0.5.8.post1 0.5.9 0.5.10 0.5.11 0.5.13 0.5.14 0.5.15 0.5.16 0.5.17 "
    "0.5.18 0.5.19 0.5.20 0.5.21 0.5.22",
    "vllm-ascend": "0.9.1 0.10.2rc1 0.12.0rc1 0.13.0 0.14.0rc1 0.16.0rc1 0.17.0rc1 0.18.0 0.19.1rc1 "
    "0.20.2rc1 0.21.0rc1 0.22.1rc1 0.24.0rc1 0.25.1rc1 0.26.0rc1 0.28.0rc1",
}
RELEASES = [
    (name, version)
    for name, versions in SOME.items()
    for version in versions + (OTHERS[name].split() if os.environ.get("ALL") else [])
]


@pytest.mark.parametrize(("name", "version"), RELEASES)
def test_every_entry_for_a_release_is_in_it(name: str, version: str) -> None:
    try:
        source = source_of(name, version)
    except UnavailableError as error:
        print(f"\n{'*' * 100}\nNOT RUN: {error}\n{'*' * 100}", file=sys.__stderr__)
        pytest.skip(str(error))
    package = name.replace("-", "_")
    symbols = PACKS / f"{package}.yaml"
    command = [COMMAND, "check", "--symbols", str(symbols), "--path", str(source), "--vllm-version", version]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    report = json.loads(done.stdout)
    ours = [row for row in report["entries"] if row["symbol"].startswith(package)]
    misfits = [(row["symbol"], row["notes"]) for row in ours if row["verdict"] not in ("fine", "other")]
    assert not misfits
    assert not report["problems"]
    assert sum(row["verdict"] == "fine" for row in ours) >= 10
