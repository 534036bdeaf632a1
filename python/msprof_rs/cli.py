"""The commands `msprof-rs` and `msserviceprofiler`."""

import sys

from msprof_rs._core import cli_main


def main() -> int:
    """Runs the command line; returns the exit code."""
    return cli_main(sys.argv)
