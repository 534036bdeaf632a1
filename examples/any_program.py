"""Quick start for any program: importing `msprof_rs` first is all that it does to be recorded.

    export SERVICE_PROF_CONFIG_PATH=config.json PROFILING_SYMBOLS_PATH=examples/any_program.yaml
    python examples/any_program.py

`any_program.yaml` names three functions of `shop.py`, one of them a coroutine.
"""

import msprof_rs  # noqa: F401, I001  (first, so that it sees the modules as they are imported)

import asyncio

from shop import serve_customers

if __name__ == "__main__":
    total = asyncio.run(serve_customers(50))
    print(f"sold for {total}")
