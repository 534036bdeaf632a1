"""What an import of the package brings into a process, and what it leaves alone."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
import typing
from pathlib import Path

import pytest

import msprof_rs
from program import PATIENCE, Program

PACKAGE = Path(msprof_rs.__file__).parent
MODULES = """
    before = set(sys.modules)
    import msprof_rs
    print(*sorted(set(sys.modules) - before))
"""

START = {f"msprof_rs.{module}" for module in ("_activation", "_core", "_drop_in", "_frameworks", "vllm")}
BUILTINS = {"atexit", "itertools"}
"""Modules in C, on most builds in the interpreter itself."""


def run(program: Program, code: str) -> tuple[str, str]:
    """Runs code, with the built-in symbols, where nothing is imported: without `site` and its `.pth` files.

    What a test installs in the program's folder can be imported.
    """
    program.environment.pop("PROFILING_SYMBOLS_PATH", None)
    begin = f"import os, sys\nsys.path[:0] = {[str(program.folder), str(PACKAGE.parent)]!r}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", begin + textwrap.dedent(code)],
        env=program.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def install(folder: Path, version: str | None = None) -> None:
    """A vLLM that does not say its version itself; `version` is that of its distribution beside it."""
    (folder / "vllm").mkdir(parents=True)
    (folder / "vllm" / "__init__.py").touch()
    if version is not None:
        describe(folder, version)


def describe(folder: Path, version: str) -> None:
    information = folder / f"vllm-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n\nText\n")


def test_without_the_variable_no_other_module_is_imported(program: Program) -> None:
    del program.environment["SERVICE_PROF_CONFIG_PATH"]
    out, _ = run(program, MODULES)
    assert out.split() == ["msprof_rs"]


@pytest.mark.parametrize("enable", [0, 1])
def test_with_the_variable_nothing_of_the_library_is_imported(program: Program, enable: int) -> None:
    """No `typing`, `pathlib`, `importlib.metadata`: each costs more than all that the profiler does."""
    program.configure(enable=enable)
    install(program.folder, "0.11.0")
    out, _ = run(program, MODULES)
    assert {"msprof_rs", *START} <= set(out.split()) <= {"msprof_rs", *START, *BUILTINS}


@pytest.mark.parametrize("enable", [0, 1])
def test_the_thread_of_the_recorder_takes_no_signal_from_its_first_moment(
    program: Program, enable: int
) -> None:
    """One that it took would not interrupt what the main thread waits for."""
    program.configure(enable=enable)
    out, _ = run(
        program,
        """
        import msprof_rs
        main = str(os.getpid())
        for thread in set(os.listdir("/proc/self/task")) - {main}:
            with open(f"/proc/self/task/{thread}/status") as status:
                (blocked,) = (int(line.split()[1], 16) for line in status if line.startswith("SigBlk:"))
            print(*(signal for signal in (1, 2, 10, 12, 15, 17, 28) if not blocked & 1 << signal - 1), "got")
        with open(f"/proc/self/task/{main}/status") as status:
            print([line.split()[1] for line in status if line.startswith("SigBlk:")])
        """,
    )
    assert out == "got\n['0000000000000000']\n"


def test_the_table_of_descriptors_is_made_longer_while_there_is_one_thread(program: Program) -> None:
    """Later that takes the recorder's thread ten milliseconds, and the import waits for it."""
    program.configure(enable=0)
    out, _ = run(
        program,
        """
        import resource
        import msprof_rs
        with open("/proc/self/status") as status:
            (length,) = (int(line.split()[1]) for line in status if line.startswith("FDSize:"))
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        print(length > min(limit, 1024) // 4 * 3)
        """,
    )
    assert out == "True\n"


def test_the_packs_are_read_when_the_first_of_their_packages_is_imported(program: Program) -> None:
    install(program.folder, "0.11.0")
    _, err = run(program, "import msprof_rs, wave")
    assert "symbols apply" not in err
    _, err = run(program, "import msprof_rs, vllm")
    assert "symbols apply (vllm 0.11.0)" in err
    _, err = run(program, "import vllm, msprof_rs")
    assert "symbols apply (vllm 0.11.0)" in err


INSTALLED = "from msprof_rs import _frameworks; print(_frameworks.installed())"


@pytest.mark.parametrize(
    ("beside", "elsewhere", "found"),
    [("0.11.0+cpu", None, "0.11.0+cpu"), (None, "0.11.0", "0.11.0"), (None, None, None)],
    ids=["beside the package", "elsewhere, as of an editable installation", "not known"],
)
def test_the_version_is_that_of_the_distribution(
    program: Program, beside: str | None, elsewhere: str | None, found: str | None
) -> None:
    install(program.folder, beside)
    if elsewhere is not None:
        describe(program.folder / "elsewhere", elsewhere)
    out, _ = run(program, f"sys.path.append({str(program.folder / 'elsewhere')!r})\n{INSTALLED}")
    assert out == f"{[('vllm', found)]}\n"


def test_a_framework_is_found_by_any_finder_that_python_would_ask(program: Program) -> None:
    """Those of editable installations map a name to a folder that is not on the path."""
    install(program.folder / "checkout", "0.11.0")
    out, _ = run(
        program,
        f"""
        class Broken:
            def find_spec(name, path=None, target=None):
                raise RuntimeError(name)
        class Editable:
            def find_spec(name, path=None, target=None):
                from importlib.machinery import PathFinder
                return PathFinder.find_spec(name, [{str(program.folder / "checkout")!r}])
        import msprof_rs
        sys.meta_path += [Broken, object(), Editable]
        sys.path.append(b"not a text")
        {INSTALLED}
        """,
    )
    assert out == "[('vllm', '0.11.0')]\n"


def test_a_lazy_framework_stays_unloaded(program: Program) -> None:
    install(program.folder, "0.11.0")
    (program.folder / "vllm" / "__init__.py").write_text("print('loaded')\n__version__ = '0.11.0'\n")
    out, _ = run(
        program,
        """
        import importlib.util
        spec = importlib.util.find_spec("vllm")
        spec.loader = importlib.util.LazyLoader(spec.loader)
        sys.modules["vllm"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        import msprof_rs
        """,
    )
    assert out == ""


def test_what_is_loaded_at_its_first_use_can_be_seen_before(program: Program) -> None:
    del program.environment["SERVICE_PROF_CONFIG_PATH"]
    out, _ = run(program, "import msprof_rs; print(set(msprof_rs.__all__) <= set(dir(msprof_rs)))")
    assert out == "True\n"
    out, _ = run(program, "from msprof_rs import *; print(len({span, timed, dump, start, Level, Profiler}))")
    assert out == "6\n"


def test_the_types_of_the_api_can_be_looked_at() -> None:
    assert typing.get_type_hints(msprof_rs.dump) == {"reason": str, "return": Path}
    assert {"function", "name", "domain", "level"} <= set(inspect.signature(msprof_rs.timed).parameters)
    assert msprof_rs.timed.__doc__
    with pytest.raises(AttributeError, match="no attribute 'tmied'"):
        msprof_rs.tmied  # noqa: B018
