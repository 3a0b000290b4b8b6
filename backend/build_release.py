#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a release of the backend: a directory that installs without any network.

    build_release.py --python 3.13 --out build/

writes ``<out>/pharma-backend-<version>-py313/``: ``wheels/`` (ours, built reproducibly, and the locked
ones for that Python on linux x86_64), ``requirements.txt`` (exact versions, the sha256 of each wheel),
``SHA256SUMS`` and ``release.json``, whose ``digest`` is the sha256 of ``SHA256SUMS``. Run it with the
project's virtual environment. When nothing has changed it only verifies what is there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import canonicalize_name, parse_wheel_filename

HERE = Path(__file__).resolve().parent
NAME = "pharma-backend"
SUPPORTED = ("3.11", "3.12", "3.13")
# 2026-01-01: the same sources give the same wheel, wherever and whenever it is built.
EPOCH = "1767225600"
# Debian 12 has glibc 2.36.
PLATFORMS = [
    *(f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
]
_PIN = re.compile(r"^(?P<pin>[A-Za-z0-9._-]+(?:\[[^]]*\])?==[^\s;\\]+)\s*(?:;\s*(?P<marker>[^\\]+?))?\s*$")


class BuildError(Exception):
    """The release cannot be built; the message names the cause."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, or verify what is there; exit 0 when a whole release stands under its name."""
    parser = argparse.ArgumentParser(description="Build a release of the backend.")
    parser.add_argument("--python", required=True, choices=SUPPORTED, help="Python of the target host")
    parser.add_argument("--out", required=True, type=Path, help="directory for releases")
    options = parser.parse_args(arguments)
    try:
        release, changed = build(options.python, options.out.resolve())
    except (BuildError, OSError) as error:
        print(f"build_release.py: {error}", file=sys.stderr)
        return 2
    identity = json.loads((release / "release.json").read_text())
    print(json.dumps({"path": str(release), "changed": changed, **identity}))
    return 0


def build(python: str, out: Path) -> tuple[Path, bool]:
    """Build into ``out``; the release's directory, and whether anything was made.

    :raises BuildError: a tool failed or a wheel does not exist for the target.
    """
    release = out / f"{NAME}-{version()}-py{python.replace('.', '')}"
    state = out / f".{release.name}.inputs"
    inputs = inputs_digest(python)
    if state.is_file() and state.read_text() == inputs and is_whole(release):
        return release, False
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{release.name}.", dir=out) as work:
        staging = Path(work) / release.name
        wheels = staging / "wheels"
        wheels.mkdir(parents=True)
        lock = Path(work) / "lock.txt"
        lock.write_text(select(HERE.joinpath("requirements.txt").read_text(), python))
        _download(lock, wheels, python)
        _build_wheel(wheels)
        _describe(staging, python)
        state.unlink(missing_ok=True)
        if release.exists():
            release.rename(Path(work) / "replaced")
        staging.rename(release)
    state.write_text(inputs)
    return release, True


def version() -> str:
    """The version in the package."""
    text = (HERE / "src/pharma_backend/__init__.py").read_text()
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise BuildError("src/pharma_backend/__init__.py has no __version__")
    return match[1]


def sources() -> Iterator[Path]:
    """Everything a release is made of, this script included."""
    yield from (
        HERE / name for name in ("build_release.py", "pyproject.toml", "README.md", "requirements.txt")
    )
    for path in sorted((HERE / "src").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def inputs_digest(python: str) -> str:
    """What a release would be made of, as one digest."""
    digest = hashlib.sha256(python.encode())
    for path in sources():
        digest.update(f"{path.relative_to(HERE)}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


def select(lock: str, python: str) -> str:
    """The entries of a universal lock that hold on the target, without their markers.

    pip evaluates markers for the interpreter that runs it, not for the one it downloads for.

    :raises BuildError: a line is neither a pin nor a hash.
    """
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
        "extra": "",
    }
    kept: list[str] = []
    wanted = False
    for line in lock.splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("--hash="):
            if wanted:
                kept.append(f"    {text}")
            continue
        match = _PIN.match(text.rstrip("\\").strip())
        if match is None:
            raise BuildError(f"requirements.txt: {text!r} is not an exact pin")
        marker = match["marker"]
        wanted = marker is None or Marker(marker).evaluate(environment)
        if wanted:
            kept.append(f"{match['pin']} \\")
    return "\n".join(kept) + "\n"


def is_whole(release: Path) -> bool:
    """Whether every file of SHA256SUMS is there and unaltered, and nothing besides."""
    sums = release / "SHA256SUMS"
    identity = release / "release.json"
    if not sums.is_file() or not identity.is_file():
        return False
    entries = [line.split("  ", 1) for line in sums.read_text().splitlines()]
    named = {name for _, name in entries} | {"SHA256SUMS", "release.json"}
    present = {str(path.relative_to(release)) for path in release.rglob("*") if path.is_file()}
    return (
        named == present
        and all(sha256(release / name) == digest for digest, name in entries)
        and json.loads(identity.read_text())["digest"] == sha256(sums)
    )


def sha256(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _run(what: str, command: list[str], cwd: str | None = None, **environment: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment, check=False
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise BuildError(f"{what} failed with status {done.returncode}:\n{tail}")


def _download(lock: Path, wheels: Path, python: str) -> None:
    platforms = [argument for name in PLATFORMS for argument in ("--platform", name)]
    _run(
        f"Downloading the locked wheels for Python {python}",
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
            *("--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms),
            *("--requirement", str(lock), "--dest", str(wheels)),
        ],
        PIP_DISABLE_PIP_VERSION_CHECK="1",
    )


def _build_wheel(wheels: Path) -> None:
    # From a copy: the build must not see (or leave) anything else in the checkout.
    with tempfile.TemporaryDirectory() as work:
        for path in sources():
            target = Path(work) / path.relative_to(HERE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        _run(
            "Building the wheel",
            [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(wheels)],
            cwd=work,
            SOURCE_DATE_EPOCH=EPOCH,
        )


def _describe(staging: Path, python: str) -> None:
    pins = []
    for wheel in sorted((staging / "wheels").iterdir()):
        wheel.chmod(0o644)
        name, number, _, _ = parse_wheel_filename(wheel.name)
        pins.append(f"{canonicalize_name(name)}=={number} --hash=sha256:{sha256(wheel)}")
    (staging / "requirements.txt").write_text("\n".join(pins) + "\n")
    files = [*sorted((staging / "wheels").iterdir()), staging / "requirements.txt"]
    sums = "".join(f"{sha256(path)}  {path.relative_to(staging)}\n" for path in files)
    (staging / "SHA256SUMS").write_text(sums)
    identity = {
        "name": NAME,
        "version": version(),
        "digest": hashlib.sha256(sums.encode()).hexdigest(),
        "python": python,
    }
    (staging / "release.json").write_text(json.dumps(identity, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
