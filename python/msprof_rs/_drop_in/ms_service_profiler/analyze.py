"""`python -m ms_service_profiler.analyze …` is `msprof-rs analyze …`."""

import sys

from msprof_rs._core import cli_main

if __name__ == "__main__":
    sys.exit(cli_main(["msprof-rs", "analyze", *sys.argv[1:]]))
