"""`python -m ms_service_profiler.split …` is `msprof-rs split …`."""

import sys

from msprof_rs._core import cli_main

if __name__ == "__main__":
    sys.exit(cli_main(["msprof-rs", "split", *sys.argv[1:]]))
