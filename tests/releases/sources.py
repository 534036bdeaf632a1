"""The Python files of a released package; nothing is installed or run.

    python sources.py NAME VERSION

prints the folder that has them, as `sys.path` would. It is in the cache afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msprof_rs" / "sources"
INDEX = os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"
ACCEPT = "application/vnd.pypi.simple.v1+json"
SECONDS = 60


class UnavailableError(Exception):
    """The index can't be reached, or does not have it."""


def source_of(name: str, version: str) -> Path:
    """The folder with the packages of this release, fetched if it is not in the cache."""
    folder = CACHE / f"{name}-{version}"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            archive = Path(work) / "archive"
            try:
                _download(_archive_url(name, version), archive)
                _unpack(archive, Path(work) / "tree")
            except (OSError, ValueError, tarfile.TarError) as error:
                raise UnavailableError(f"{name} {version}: {error}") from error
            try:
                (Path(work) / "tree").rename(folder)
            except OSError:
                if not folder.exists():  # another process was faster
                    raise
    # SGLang keeps its packages in a folder of the archive.
    return folder / "python" if (folder / "python" / name).is_dir() else folder


def _archive_url(name: str, version: str) -> str:
    """The source distribution, else the smallest wheel: the Python files are the same in all."""
    request = urllib.request.Request(f"{INDEX.rstrip('/')}/{name}/", headers={"Accept": ACCEPT})
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        files = json.load(answer)["files"]
        base = answer.url
    stem = f"{name}-{version}".replace("-", "_")
    ours = {file["filename"].replace("-", "_"): file for file in files}
    found = ours.get(f"{stem}.tar.gz")
    if found is None:
        wheels = [file for key, file in ours.items() if key.startswith(f"{stem}_") and key.endswith(".whl")]
        found = min(wheels, key=lambda file: file.get("size", 0), default=None)
    if found is None:
        raise ValueError("the index does not have it")
    url: str = found["url"]
    return urllib.parse.urljoin(str(base), url)


def _download(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=SECONDS) as answer, path.open("wb") as file:
        shutil.copyfileobj(answer, file)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks the Python files; those of a source distribution without its own top folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                _write(folder, name, partial(wheel.read, name))
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None:
                _write(folder, member.name.partition("/")[2], file.read)


def _write(folder: Path, name: str, read: Callable[[], bytes]) -> None:
    if name.endswith(".py") and ".." not in name.split("/"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(source_of(sys.argv[1], sys.argv[2]))
