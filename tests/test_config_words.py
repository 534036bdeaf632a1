"""What a config, a symbol file or a variable says and can't be meant so is told, in a line with its place."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from program import Program


def lines_of(err: str, what: str) -> list[str]:
    return [line for line in err.splitlines() if what in line]


@pytest.mark.parametrize("text", ["~/", "~", "~/captures", "$HOME/captures", "${HOME}/captures"])
def test_a_capture_folder_is_written_as_in_a_shell(program: Program, text: str) -> None:
    work = program.folder / "work"
    work.mkdir()
    program.configure(prof_dir=text)
    program.run(f"import os; os.chdir({str(work)!r}); msprof_rs.event('x')")
    assert list(work.iterdir()) == []
    inside = program.folder / "captures" if "captures" in text else program.folder
    assert list(inside.glob("*/*.pftrace"))


def test_a_user_without_a_home_has_captures_beside_the_config(program: Program) -> None:
    program.config.write_text('{"enable": 1}')
    code = "import os.path; os.path.expanduser = lambda path: path\nimport msprof_rs; msprof_rs.event('x')"
    outcome = program.execute(
        [program.python, "-c", code],
        SERVICE_PROF_CONFIG_PATH=str(program.config),
        PROFILING_SYMBOLS_PATH="~/symbols.yaml",
        PYTHONPATH=program.environment["PYTHONPATH"],
    )
    assert outcome.returncode == 0, outcome.stderr
    assert list((program.folder / ".ms_server_profiler").glob("*/*.pftrace")), outcome.stderr
    assert "no home folder" in outcome.stderr
    assert not Path("~").exists()


@pytest.mark.parametrize("text", ['{"enable": 1,}', '{"enable": 1} // on', '{"enable": 1}\0', "", "[]"])
def test_a_broken_config_is_told_by_a_program_that_ends_at_once(program: Program, text: str) -> None:
    program.config.write_text(text)
    _, err = program.run("pass")
    assert len(lines_of(err, "config.json")) == 1, err
    assert "[ERROR]" in err, err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("enable", 2),
        ("enable", -1),
        ("metric_enable", 7),
        ("timelimit", -4),
        ("ring_mb", 0),
        ("prof_dir", "~x/y"),
    ],
)
def test_a_value_out_of_range_is_told(program: Program, key: str, value: object) -> None:
    program.configure(**{key: value})
    _, err = program.run("pass")
    [line] = lines_of(err, f'"{key}"')
    assert "[WARN]" in line, line
    assert json.dumps(value) in line, line


def test_of_a_key_that_is_there_twice_the_last_counts_as_in_pyyaml(hooked: Program) -> None:
    hooked.config.write_text(f'{{"enable": 0, "enable": 1, "prof_dir": {json.dumps(str(hooked.prof_dir))}}}')
    hooked.hook("- symbol: shapes:nothing\n  symbol: shapes:add\n  name: one\n  name: two\n")
    _, err = hooked.run("import shapes; shapes.add(1)")
    assert [span.name for span in hooked.capture().spans] == ["two"]
    assert "symbols.yaml:2: the key `symbol` is there twice, also in line 1" in err
    assert "symbols.yaml:4: the key `name` is there twice, also in line 3" in err
    assert 'config.json: keys that are there twice, of which the last counts: "enable"' in err


def test_files_that_are_too_large_are_not_read(program: Program) -> None:
    for file in (program.config, program.symbols):
        with file.open("w") as out:
            out.truncate(1 << 40)
    _, err = program.run("pass")
    assert "config.json: can't read the file: it has more than" in err
    assert re.search(r"symbols\.yaml: the file can't be read: it has more than .*; the built-in", err), err


def test_a_long_value_is_quoted_in_a_short_line(program: Program) -> None:
    program.configure(mode="x" * 900_000)
    program.hook(f"- symbol: shapes:add\n  level: {'y' * 5_000_000}\n")
    _, err = program.run("pass")
    assert lines_of(err, "xxx")
    assert lines_of(err, "yyy")
    assert max(map(len, err.splitlines())) < 1_000


def test_a_log_level_that_there_is_not_is_told(program: Program) -> None:
    _, err = program.run("pass", PROF_LOG_LEVEL="LOUD")
    assert len(lines_of(err, '"LOUD"')) == 1
    for level in ("DEBUG", "info", "WARNING", "ERROR", "NONE", ""):
        assert "PROF_LOG_LEVEL" not in program.run("pass", PROF_LOG_LEVEL=level)[1]


def test_what_no_module_has_is_told_at_the_end_by_the_main_process_alone(hooked: Program) -> None:
    package = hooked.folder / "goods"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cart.py").write_text("class Crate:\n    def add(self): pass\n")
    (package / "other.py").touch()
    hooked.hook(
        """\
        - symbol: goods.cart:Crate.add
        - symbol: goods.crat:Crate.add
        - symbol: goods.other:f
        - symbol: goods.cart.x:f
        - symbol: godos.cart:Crate.add
        - symbol: godos.*:Crate.add
        - symbol: goods.*:Crat.add
        - symbol: goods.*:C*.add
        - symbol: shapes:f
        """
    )
    code = """
    import os, multiprocessing, sys
    sys.path.insert(0, os.getcwd())
    import goods.cart
    if os.fork() == 0:
        sys.exit()
    os.wait()
    child = multiprocessing.get_context("fork").Process(target=int)
    child.start()
    child.join()
    """
    _, err = hooked.run(code)
    [modules] = lines_of(err, "modules that there are not")
    assert "[WARN]" in modules, err
    assert re.findall(r"line (\d)", modules) == ["2", "4"], err
    [packages] = lines_of(err, "packages that this process does not find")
    assert "[INFO]" in packages, err
    assert re.findall(r"line (\d)", packages) == ["5", "6"], err
    [methods] = lines_of(err, "match no method")
    assert "[INFO]" in methods, err
    assert re.findall(r"line (\d)", methods) == ["7"], err


def test_what_was_imported_is_not_told_as_missing_though_it_can_be_found_no_more(hooked: Program) -> None:
    (hooked.folder / "goods.py").write_text("def add(): pass\n")
    hooked.hook("[{symbol: 'goods:add'}, {symbol: 'orders:add'}]")
    code = """
    import os, sys
    sys.path.insert(0, os.getcwd())
    import goods
    del sys.modules["goods"]
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    """
    _, err = hooked.run(code)
    [packages] = lines_of(err, "packages that this process does not find")
    assert "orders:add" in packages, err
    assert "goods:add" not in packages, err


def test_no_package_is_loaded_to_find_out_what_it_has_not(
    hooked: Program,
) -> None:
    package = hooked.folder / "goods"
    package.mkdir()
    (package / "__init__.py").write_text("import sys\nprint('goods are loaded', file=sys.stderr)\n")
    hooked.hook("- symbol: goods.crat:add\n")
    code = """
    import importlib.util, os, sys
    sys.path.insert(0, os.getcwd())
    spec = importlib.util.find_spec("goods")
    spec.loader = importlib.util.LazyLoader(spec.loader)
    goods = sys.modules["goods"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(goods)
    """
    _, err = hooked.run(code)
    assert lines_of(err, "modules that there are not"), err
    assert not lines_of(err, "goods are loaded"), err


def test_built_in_symbols_that_meet_nothing_are_not_told(program: Program) -> None:
    for _ in range(2):  # the first time the file is made
        assert "check" not in program.run("pass")[1]
    assert "check" not in program.run("pass", PROFILING_SYMBOLS_PATH="")[1]


def test_a_domain_that_nothing_records_in_is_told(hooked: Program) -> None:
    hooked.hook("- {symbol: 'shapes:add', domain: Shop}\n- {symbol: 'json.tool:main', domain: Elsewhere}\n")
    hooked.configure(domain="Shop;Shpo;Elsewhere;Own")
    _, err = hooked.run(
        "import shapes, os; shapes.add(1); msprof_rs.event('x', domain='Own'); os.fork() and os.wait()"
    )
    [line] = lines_of(err, '"domain"')
    assert '"Shpo"' in line, line
    assert "Elsewhere, Shop" in line, line


def test_messages_speak_of_what_is_wrong_and_of_nothing_else(hooked: Program) -> None:
    hooked.hook(
        """\
        - symbol: shapes:nothing
        - symbol: mistaken:fail
          attributes: [{name: result, expr: return.x}, {name: given, expr: a}]
        """
    )
    (hooked.folder / "mistaken.py").write_text("def fail(a): raise ValueError(a)\n")
    code = """
    import os, sys
    sys.path.insert(0, os.getcwd())
    import shapes, mistaken
    try: mistaken.fail(5)
    except ValueError: pass
    class Mute:
        def __str__(self): raise RuntimeError("no text")
        __repr__ = __str__
    msprof_rs.event("x", a=Mute())
    """
    _, err = hooked.run(code)
    assert "module 'shapes' has no attribute 'nothing'" in err
    assert "circular" not in err
    assert lines_of(err, "mistaken") == []
    [span] = hooked.capture().spans
    assert span.attributes["given"] == 5
    assert "result" not in span.attributes
    [line] = lines_of(err, "the attribute a is left out")
    assert "msprof_rs.:" not in line
    assert os.sep not in line.split("[WARN]")[1].split(":")[0]
