"""Which clock is read, and that it is said where it is the slower one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from program import Program

HIDE = 'mount -t tmpfs none /sys/devices/system/clocksource && exec "$@"'
UNSHARE = ["unshare", "--map-root-user", "--mount", "sh", "-c", HIDE, "sh"]


def can_hide() -> bool:
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_hide(), reason="no file of /sys can be hidden here: unshare or mount is refused")
@pytest.mark.skipif(
    sys.platform != "linux" or "x86" not in __import__("platform").machine(), reason="x86 only"
)
def test_where_the_counter_can_not_be_trusted_one_line_says_so(program: Program) -> None:
    program.hook("[]")
    code = "import msprof_rs; msprof_rs.event('a'); msprof_rs.stop(); msprof_rs.start(); msprof_rs.event('b')"
    run = subprocess.run(
        [*UNSHARE, sys.executable, "-c", code],
        env=program.environment,
        cwd=program.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in run.stderr.splitlines() if "the clock is the kernel's" in line]
    assert len(lines) == 1, run.stderr
    assert "current_clocksource" in lines[0]
    assert {event.name for event in program.capture().instants} == {"a", "b"}
