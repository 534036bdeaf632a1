"""Hooks in code for `torch.compile(fullgraph=True)`: as many graphs as without, and the same results."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import pytest
from environment import Environment, UnavailableError, skip_loudly

from program import Program

SYMBOLS = (
    "entry", "scaled", "by_five", "twice", "wrapping", "root", "tripled", "scripted", "compiled", "scale",
    "Activation.forward", "Net.forward", "Net.head", "Net.shifted", "Net.frozen", "Net.__getitem__",
    "Net.doubled", "Net.of_class", "Derived.forward", "Derived.head",
)  # fmt: skip

COMPILE = """
import json
import compiled, torch
from torch._dynamo.testing import CompileCounter
x = torch.linspace(-1, 1, 16).reshape(4, 4)
answers = {}
for name, case in compiled.cases().items():
    torch._dynamo.reset()
    counter = CompileCounter()
    eager = case(x)
    taken = torch.compile(case, backend=counter, fullgraph=True)
    equal = all(torch.equal(taken(x), eager) for _ in range(3))
    answers[name] = [counter.frame_count, counter.op_count, equal, eager.tolist()]
print(json.dumps(answers))
"""

TORCH_FIRST = f"""
import subprocess, sys
code = "import torch._dynamo.variables.builder, compiled, msprof_rs\\n" + {COMPILE!r}
subprocess.run([sys.executable, "-c", code], check=True)
"""


@pytest.fixture(
    scope="module",
    params=[("3.11", "wrapper"), ("3.12", "in place"), ("3.12", "wrapper")],
    ids=lambda param: " ".join(param),
)
def torch_program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A program in an environment that has a real torch."""
    version, way = request.param
    try:
        environment = Environment(version)
    except UnavailableError as error:
        skip_loudly(f"torch.compile on CPython {version}: {error}")
    folder = tmp_path_factory.mktemp(f"torch-{version}")
    program = Program(folder, force_wrapper=(way, version) == ("wrapper", "3.12"))
    program.python = environment.program("python")
    package = str(environment.unpack_wheel())
    program.environment["PYTHONPATH"] = os.pathsep.join((package, program.environment["PYTHONPATH"]))
    return program


@pytest.fixture(scope="module")
def bare(torch_program: Program) -> Any:
    """What the cases give without a hook."""
    torch_program.hook("- {symbol: 'nowhere:nothing'}")
    answers = json.loads(torch_program.run(COMPILE)[0])
    assert torch_program.capture().spans == []
    return answers


@pytest.mark.parametrize("code", [COMPILE, TORCH_FIRST], ids=["the profiler first", "torch first"])
def test_a_hook_breaks_no_graph_and_changes_no_result(torch_program: Program, bare: Any, code: str) -> None:
    entries = [f"- symbol: compiled:{symbol}\n" for symbol in SYMBOLS]
    entries.append("- {symbol: 'compiled:scaled', name: seen, attributes: [{name: x, expr: x}]}\n")
    torch_program.hook("".join(entries))
    shutil.rmtree(torch_program.prof_dir)
    out, err = torch_program.run(code)
    hooked = json.loads(out)
    assert hooked == bare
    assert {name: answer[0] for name, answer in hooked.items()} == dict.fromkeys(hooked, 1)
    assert "is not hooked" not in err
    assert "version of torch" not in err
    # Calls outside of compiled code are recorded as always.
    capture = torch_program.capture()
    seen = [span.attributes for span in capture.named("seen") if "x" in span.attributes]
    assert {"x": {"shape": [4, 4], "dtype": "torch.float32"}} in seen
    names = {symbol.rpartition(".")[2] for symbol in SYMBOLS}
    assert {span.name for span in capture.spans} == names | {"seen"}
