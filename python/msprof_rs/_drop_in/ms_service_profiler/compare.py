"""`python -m ms_service_profiler.compare …` is `msprof-rs compare …`."""

import sys

from msprof_rs._core import cli_main

if __name__ == "__main__":
    sys.exit(cli_main(["msprof-rs", "compare", *sys.argv[1:]]))
