"""The whole way in one command: the example service under load, collected, parsed. For `make demo`.

python examples/demo.py build/demo
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

SERVICE = Path(__file__).parent / "service" / "serve.py"
PARSER = Path(sys.executable).with_name("msprof-rs")


def collect(folder: Path) -> Path:
    """Runs the service, which knows nothing of it, with collection on; gives the folder of the captures."""
    captures = folder / "captures"
    config = folder / "config.json"
    config.write_text(json.dumps({"enable": 1, "prof_dir": str(captures)}, indent=4))
    environment = os.environ | {"SERVICE_PROF_CONFIG_PATH": str(config)}
    environment.pop("PROFILING_SYMBOLS_PATH", None)  # the built-in symbols for vLLM
    command = [sys.executable, str(SERVICE), "--report", str(folder / "truth.json")]
    subprocess.run(command, env=environment, check=True)
    (session,) = captures.iterdir()
    return session


def parse(session: Path, output: Path) -> None:
    """Makes the timeline and the tables; their summary goes to the terminal."""
    command = [str(PARSER), "parse", "--input-path", str(session), "--output-path", str(output)]
    subprocess.run(command, check=True)


def main() -> None:
    """Starts afresh in the folder of the command line."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    session = collect(folder)
    parse(session, folder / "output")
    print(
        "\nThe service's own times, further above, are those of its clients: they begin before a request is"
        "\nin the server's hands and end when the answer is in theirs, so they differ from the recorded ones."
    )
    print(f"\ncaptures:  {session}   (each opens in https://ui.perfetto.dev as it is)")
    print(f"outputs:   {folder / 'output'}")
    for path in sorted((folder / "output").iterdir()):
        print(f"           {path.stat().st_size:>10,}  {path.name}")


if __name__ == "__main__":
    main()
