"""`python -m ms_service_profiler.parse …` is `msprof-rs parse …`."""

import sys

from msprof_rs._core import cli_main

if __name__ == "__main__":
    sys.exit(cli_main(["msprof-rs", "parse", *sys.argv[1:]]))
