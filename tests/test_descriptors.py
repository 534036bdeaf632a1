"""A program's descriptors are its own: nothing of ours lands in its files."""

from __future__ import annotations

import pytest

from program import Program, wait_until

OWN_FILES = """
def use_own_files(taken):
    files = [open(f"mine-{n}", "w+") for n in range(24)]
    for number in taken: os.dup2(files[0].fileno(), number)
    for file in files: print("my own", file=file, flush=True)
    for number in range(200):
        with msprof_rs.span("after"): time.sleep(0.001)
    for file in files: print("end", file=file, flush=True)
    for number in taken: os.close(number)  # fails if somebody else has closed it
    for file in files: file.close()
"""

STEPS = {
    "closes what it doesn't know": "os.closerange(3, 256)",
    "closes everything": "os.closerange(3, 4096)",
    "becomes a daemon": """
os.fork() and os._exit(0)
os.setsid()
os.fork() and os._exit(0)
os.closerange(3, 4096)
""",
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("taken", ["range(0)", "range(700, 1024)"], ids=["low numbers", "ours"])
def test_what_is_recorded_lands_in_no_file_of_the_program(program: Program, step: str, taken: str) -> None:
    program.run(
        f"""
import os, time
{OWN_FILES}
{STEPS[step]}
while not msprof_rs.is_enabled(): time.sleep(0.001)  # a forked child's recorder
use_own_files({taken})
msprof_rs.shutdown()
open("done", "w").close()
        """
    )
    wait_until((program.folder / "done").exists, "the daemon's end")
    spoilt = {
        path.name: text
        for path in program.folder.glob("mine-*")
        if (text := path.read_bytes()) != b"my own\nend\n"
    }
    assert not spoilt
    assert len(program.capture().named("after")) == 200, "collection went on"
    assert len(program.sessions()) == 1, "a daemon is of its parents' session"


def test_a_capture_that_is_closed_and_gone_is_followed_by_another_which_one_line_says(
    program: Program,
) -> None:
    _, err = program.run(
        """
        import glob, os, time
        os.closerange(3, 4096)
        for capture in glob.glob("captures/*/*.pftrace"): os.remove(capture)
        while not glob.glob("captures/*/*.pftrace"):
            with msprof_rs.span("lost"): pass
        with msprof_rs.span("kept"): pass
        """,
        PROF_LOG_LEVEL="WARNING",
    )
    assert err.count("\n") == 1, err
    assert "the program has closed" in err
    assert "the capture goes on in a new file" in err
    assert len(program.capture().named("kept")) == 1


def test_a_file_that_got_the_number_of_standard_error_has_no_line_of_ours(program: Program) -> None:
    program.run(
        """
        import os
        os.close(2)
        # A file of the recorder's has the lowest number until it has moved to a high one.
        while (mine := open("mine", "w")).fileno() != 2:
            mine.close()
        with mine:
            msprof_rs.stop()
            mine.write("my own")
        """
    )
    assert (program.folder / "mine").read_text() == "my own"


def test_our_lines_follow_standard_error_to_where_the_program_sends_it(program: Program) -> None:
    program.run(
        """
        import os
        with open("log", "w") as log: os.dup2(log.fileno(), 2)
        msprof_rs.stop()
        """
    )
    assert "collection stopped" in (program.folder / "log").read_text()
