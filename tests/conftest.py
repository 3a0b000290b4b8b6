# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the engine importable under the name that it has on the hosts: ``pharma_ops``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import hypothesis
import pytest

# How long one example takes says more of the machine's load than of the code.
hypothesis.settings.register_profile("checkout", deadline=None, print_blob=True)
hypothesis.settings.load_profile("checkout")

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "plugins" / "module_utils" / "_ops"


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
