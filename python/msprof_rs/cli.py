"""The commands `msprof-rs` and `msserviceprofiler`."""

import signal
import sys

from msprof_rs._core import cli_main


def main() -> int:
    """Runs the command line; returns the exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C ends the command at once. Python's own handler would wait for Python code to run.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return cli_main(sys.argv)
