# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the engine importable under the name that it has on the hosts: ``pharma_ops``."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# How long one example takes says more of the machine's load than of the code.
hypothesis.settings.register_profile("checkout", deadline=None, print_blob=True)
hypothesis.settings.load_profile("checkout")

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "plugins" / "module_utils" / "_ops"
# Modules that unit and integration tests share.
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("store_contract")


def _register_engine() -> None:
    if "pharma_ops" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "pharma_ops", ENGINE / "__init__.py", submodule_search_locations=[str(ENGINE)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no engine at {ENGINE}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["pharma_ops"] = module
    spec.loader.exec_module(module)


_register_engine()


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def engine_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PYTHONPATH of child processes: in it the engine is the package ``pharma_ops``."""
    directory = tmp_path_factory.mktemp("lib")
    (directory / "pharma_ops").symlink_to(ENGINE, target_is_directory=True)
    return directory


def _run_ansible(program: str, *words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this interpreter's environment without the checkout's or the user's configuration."""
    return subprocess.run(
        [str(Path(sys.executable).with_name(program)), *words],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8", "NO_COLOR": "1"} | env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def run_ansible() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs one of Ansible's programs as somebody who has never seen the checkout."""
    return _run_ansible


@pytest.fixture(scope="session")
def tarball(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection as it is published."""
    directory = tmp_path_factory.mktemp("build")
    done = _run_ansible(
        "ansible-galaxy", "collection", "build", "--output-path", str(directory), str(root), cwd=directory
    )
    assert done.returncode == 0, done.stderr
    return next(directory.glob("pharma-hardening-*.tar.gz"))


@pytest.fixture(scope="session")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collections path that holds nothing but the installed tarball."""
    directory = tmp_path_factory.mktemp("installed")
    done = _run_ansible(
        "ansible-galaxy",
        *("collection", "install", "--offline", "--no-deps", "-p", str(directory), str(tarball)),
        cwd=directory,
    )
    assert done.returncode == 0, done.stderr
    return directory
